/**
 * Calls of an asynchronous function of which only the newest matters: one runs at a time, those that came meanwhile are
 * dropped but for the last, and stale answers are not told. Pure but for its own state.
 *
 * @template A, R
 * @param {(argument: A) => Promise<R>} ask
 * @param {(answer: R, argument: A) => void} tell
 * @param {(error: Error) => void} fail
 */
export function newest(ask, tell, fail) {
  let running = false
  /** @type {{ argument: A } | null} */
  let waiting = null
  let round = 0

  async function run(/** @type {A} */ argument) {
    running = true
    const mine = round
    try {
      const answer = await ask(argument)
      if (!waiting && mine === round) tell(answer, argument)
    } catch (error) {
      if (!waiting && mine === round) fail(/** @type {Error} */ (error))
    }
    running = false
    if (waiting) {
      const next = waiting.argument
      waiting = null
      run(next)
    }
  }

  return {
    /** @param {A} argument */
    request(argument) {
      if (running) waiting = { argument }
      else run(argument)
    },
    /** Answers that are still under way are not told. */
    forget() {
      round += 1
      waiting = null
    }
  }
}
