/** The small forms of the details pane: a name, and for a merge another calibration. Knows nothing of ComfyUI. */
import { button, keepKeys, make } from './library_dom.js'

/**
 * A form that asks for a name, and stays with the server's words when that refuses.
 * @param {object} given
 * @param {string} given.label of the name
 * @param {string} given.value
 * @param {string} given.action the words of its button
 * @param {HTMLElement[]} [given.before] further fields
 * @param {(name: string) => Promise<void>} given.onSubmit
 * @param {() => void} given.onCancel
 */
export function createNameForm({ label, value, action, before = [], onSubmit, onCancel }) {
  const input = /** @type {HTMLInputElement} */ (make('input', 'lemica-field'))
  input.value = value
  input.required = true
  input.spellcheck = false
  const error = make('p', 'lemica-refusal')
  error.setAttribute('role', 'alert')
  error.hidden = true
  const submit = button(action, () => {})
  submit.type = 'submit'
  const form = make(
    'form', 'lemica-form', ...before, make('label', '', label, input),
    make('div', 'lemica-actions', submit, button('Cancel', onCancel)), error
  )
  form.addEventListener('submit', async (event) => {
    event.preventDefault()
    submit.disabled = true
    error.hidden = true
    try {
      await onSubmit(input.value.trim())
    } catch (refusal) {
      error.textContent = refusal.message
      error.hidden = false
      input.focus()
    }
    submit.disabled = false
  })
  form.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') onCancel()
  })
  keepKeys(form)
  return {
    element: form,
    focus() {
      input.focus()
      input.select()
    }
  }
}

/**
 * @param {string} label
 * @param {string[]} names to choose from
 */
export function createChoice(label, names) {
  const select = /** @type {HTMLSelectElement} */ (make('select', 'lemica-field'))
  select.append(...names.map((name) => make('option', '', name)))
  return { element: make('label', '', label, select), value: () => select.value }
}
