/** Asks the routes of the pack. Knows nothing of ComfyUI but the function that it is given. */

/** What the server refused, in its words. */
export class Refusal extends Error {
  /**
   * @param {string} message
   * @param {number} status
   */
  constructor(message, status) {
    super(message)
    this.status = status
  }
}

async function answerOf(response) {
  const answer = await response.json().catch(() => null)
  if (response.ok && answer !== null) return answer
  throw new Refusal(
    answer?.error ?? `The server answered ${response.status}.`,
    response.status
  )
}

/**
 * @param {(path: string, options?: RequestInit) => Promise<Response>} fetchApi
 */
export function createServer(fetchApi) {
  // A page of another site cannot send this header without being let: the routes turn it away.
  const ours = { 'X-LeMiCa': '1' }
  const ask = async (path, options) => {
    const response = await fetchApi(`/lemica/${path}`, options).catch(() => {
      throw new Refusal('The server cannot be reached.', 0)
    })
    return answerOf(response)
  }
  return {
    get: (path) => ask(path),
    post: (path, body) =>
      ask(path, {
        method: 'POST',
        headers: { ...ours, 'Content-Type': 'application/json' },
        body: JSON.stringify(body)
      }),
    send: (path, file) => {
      const form = new FormData()
      form.append('file', file)
      return ask(path, { method: 'POST', headers: { ...ours }, body: form })
    }
  }
}
