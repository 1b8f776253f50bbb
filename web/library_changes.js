/** What the library tab asks the server to change. Knows neither ComfyUI nor the page. */

/** @typedef {import('./library_entries.js').Entry} Entry */

/**
 * @param {ReturnType<typeof import('./server.js').createServer>} server
 */
export function createChanges(server) {
  return {
    /**
     * @param {Entry} entry
     * @param {string} name
     */
    rename: ({ kind, name: old, data }, name) =>
      server.post('rename', { kind, old: kind === 'record' ? data.name : old, new: name }),

    /**
     * Leave a picture out of what is learned, or count it again.
     * @param {Entry} entry
     */
    leaveOut: ({ data }) => server.post('leave_out', { name: data.name, left_out: !data.left_out }),

    /** @param {Entry} entry what has no name of the user's goes by its folder or file */
    remove: ({ kind, name, data }) =>
      server.post('delete', { kind, name: { job: data.folder, record: data.name }[kind] ?? name }),

    /** @param {Entry} one */
    merge: (one, other, name) => server.post('merge', { first: one.name, second: other, name }),

    /**
     * Save a schedule of the pack, sigmas and all, as one of the user's.
     * @param {Entry} entry
     * @param {string} name
     */
    async copy({ kind, name: from }, name) {
      const schedule = await server.get(`export?${new URLSearchParams({ kind, name: from })}`)
      return server.post('save', { schedule, name })
    },

    /** Save what a plan came to. */
    keep: ({ family, steps, computed, rules, weights, origin, note }, name) =>
      server.post('save', {
        schedule: { family, steps, computed, rules, weights, origin, sigmas: null, source: { planned: note } }, name
      }),

    /**
     * One after the other, so that each finds the names that are free then.
     * @param {File[]} files
     * @returns {Promise<{
     *   done: { file: string, kind: string, name: string, existed: boolean }[], failed: { file: string, error: string }[]
     * }>}
     */
    async importFiles(files) {
      const [done, failed] = [[], []]
      for (const file of files) {
        try {
          done.push({ file: file.name, ...(await server.upload('import', file)) })
        } catch (refusal) {
          failed.push({ file: file.name, error: refusal.message })
        }
      }
      return { done, failed }
    }
  }
}
