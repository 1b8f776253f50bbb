/** What our files cost when the page opens: requests, bytes, and the time until they are there. */
import { given, onPage, ready } from './page.mjs'

const OURS = /\/extensions\/[^/]*lemica[^/]*\/|\/lemica\//i

await onPage(async (page) => {
  const all = { requests: 0, bytes: 0 }
  const ours = { requests: 0, bytes: 0, files: [] }
  page.on('requestfinished', async (request) => {
    const sizes = await request.sizes().catch(() => null)
    const bytes = sizes === null ? 0 : sizes.responseBodySize
    all.requests++
    all.bytes += bytes
    const { pathname } = new URL(request.url())
    if (!OURS.test(pathname)) return
    ours.requests++
    ours.bytes += bytes
    ours.files.push(pathname)
  })
  const begin = Date.now()
  await page.goto(given.url)
  await ready(page)
  await page.waitForLoadState('networkidle')
  return { ours, all, milliseconds: Date.now() - begin }
})
