/** A page that the server tells of runs and calibrations from the moment that its socket opens. */
import { given, onPage, ready, until } from './page.mjs'

await onPage(async (page) => {
  let sent = 0
  await page.routeWebSocket(/\/ws/, (socket) => {
    const server = socket.connectToServer()
    server.onMessage((message) => {
      for (const event of sent ? [] : given.events) socket.send(JSON.stringify(event))
      sent += 1
      socket.send(message)
    })
  })
  await page.reload()
  await ready(page)
  await until(page, 'a message of the server', async () => sent, (count) => count > 0)
  return { sent }
})
