import assert from 'node:assert/strict'
import test from 'node:test'
import { dividerAt, parseReport } from '../../web/compare_view.js'

const TEXT = `| | all frames | worst frame |
| --- | --- | --- |
| PSNR | 41.20 dB | 38.10 dB (frame 3) |
| speed-up | 1.50x | |

9 frames of 64x48 pixels, against the full run.
LPIPS was not measured: there is no network
`

test('the table and the lines below it', () => {
  assert.deepEqual(parseReport(TEXT), {
    rows: [
      ['', 'all frames', 'worst frame'],
      ['PSNR', '41.20 dB', '38.10 dB (frame 3)'],
      ['speed-up', '1.50x', '']
    ],
    notes: [
      '9 frames of 64x48 pixels, against the full run.',
      'LPIPS was not measured: there is no network'
    ]
  })
  assert.deepEqual(parseReport(''), { rows: [], notes: [] })
})

test('keys move the divider within the picture', () => {
  assert.equal(dividerAt(50, 'ArrowLeft', false), 48)
  assert.equal(dividerAt(50, 'ArrowRight', true), 60)
  assert.equal(dividerAt(99, 'PageUp', false), 100)
  assert.equal(dividerAt(50, 'Home', false), 0)
  assert.equal(dividerAt(50, 'x', false), null)
})
