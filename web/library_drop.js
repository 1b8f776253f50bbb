/** Files that are dropped on an element. Knows nothing of ComfyUI. */

const carriesFiles = ({ dataTransfer }) => Boolean(dataTransfer?.types.includes('Files'))

/**
 * @param {HTMLElement} element the whole of which takes files; it has the class lemica-dropping while they are above it
 * @param {(files: File[], folders: string[]) => void} onFiles folders cannot be read and are only named
 */
export function acceptFiles(element, onFiles) {
  const mark = (above) => element.classList.toggle('lemica-dropping', above)
  for (const kind of ['dragenter', 'dragover']) {
    element.addEventListener(kind, (event) => {
      if (!carriesFiles(event)) return
      event.preventDefault()
      event.stopPropagation()
      event.dataTransfer.dropEffect = 'copy'
      mark(true)
    })
  }
  element.addEventListener('dragleave', ({ relatedTarget }) => {
    if (!element.contains(relatedTarget)) mark(false)
  })
  element.addEventListener('drop', (event) => {
    if (!carriesFiles(event)) return
    // not for the graph, which would open a JSON file as a workflow
    event.preventDefault()
    event.stopPropagation()
    mark(false)
    const items = [...event.dataTransfer.items].filter(({ kind }) => kind === 'file')
    const isFolder = (item) => Boolean(item.webkitGetAsEntry?.()?.isDirectory)
    const [folders, files] = [items.filter(isFolder), items.filter((item) => !isFolder(item))]
    const fileOf = (item) => item.getAsFile()
    onFiles(files.map(fileOf).filter(Boolean), folders.map((item) => item.webkitGetAsEntry().name))
  })
}
