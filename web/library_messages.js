/** What came of the last thing that was done in the library tab. Knows nothing of ComfyUI. */
import { button, make } from './library_dom.js'

export function createMessages() {
  const done = make('div', 'lemica-said')
  done.setAttribute('role', 'status')
  const failed = make('div', 'lemica-said lemica-failed')
  failed.setAttribute('role', 'alert')
  const dismiss = button('×', () => say([]), 'Dismiss')
  dismiss.setAttribute('aria-label', 'Dismiss the messages')
  const element = make('div', 'lemica-messages', make('div', '', failed, done), dismiss)
  element.hidden = true

  /**
   * In place of what was said before.
   * @param {string[]} words
   * @param {string[]} [refusals]
   */
  function say(words, refusals = []) {
    done.replaceChildren(...words.map((line) => make('p', '', line)))
    failed.replaceChildren(...refusals.map((line) => make('p', '', line)))
    element.hidden = !words.length && !refusals.length
  }

  return { element, say }
}
