/** The elements of the library tab, in one line each. Knows nothing of ComfyUI. */

/**
 * @param {string} tag
 * @param {string} name its CSS class
 * @param {...(Node | string)} children
 */
export function make(tag, name, ...children) {
  const element = document.createElement(tag)
  if (name) element.className = name
  element.append(...children)
  return element
}

/**
 * @param {string} words
 * @param {() => void} onClick
 * @param {string} [title] what it does, in more words
 */
export function button(words, onClick, title = '') {
  const element = /** @type {HTMLButtonElement} */ (make('button', 'lemica-button', words))
  element.type = 'button'
  element.title = title
  element.addEventListener('click', onClick)
  return element
}

/** @param {[string, string][]} facts */
export const factList = (facts) =>
  make('dl', 'lemica-facts', ...facts.flatMap(([term, fact]) => [make('dt', '', term), make('dd', '', fact)]))

/** @param {string[]} badges where an entry comes from, or what it is */
export const badgeList = (badges) =>
  badges.map((badge) => {
    const element = make('span', 'lemica-badge', badge)
    element.dataset.badge = badge
    return element
  })

/** The keys of a text field are its own, not those of the graph or of the tree. */
export const keepKeys = (element) =>
  element.addEventListener('keydown', (event) => event.stopPropagation())
