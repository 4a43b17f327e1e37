/** Words that this project does not use, each with the field's word in its place. CHANGELOG.md may name them. */
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import test from 'ava'

interface Word {
  word: string
  instead: string
  /** Matched in each line, with names taken apart: `letGoOf` and `let_go_of` are read as `let Go of` and `let go of`. */
  found: RegExp
  /** An honest use that `found` leaves alone, for whoever reads the table. */
  butNot?: string
}

const words: readonly Word[] = [
  { word: 'mend', instead: 'reconcile, repair, fix', found: /\bmend(s|ed|ing|ers?)?\b/i, butNot: 'recommend, amend' },
  { word: 'doubt', instead: 'unanswered call', found: /\bdoubt(s|ed|ful)?\b/i },
  { word: 'undecided', instead: 'ambiguous', found: /\bundecided\b/i },
  { word: 'unsellable', instead: 'oversold', found: /\bunsellable\b/i },
  { word: 'drift', instead: 'foreign holds', found: /(?<!clocks )\bdrift(s|ed|ing)?\b/i, butNot: 'clocks drift apart' },
  { word: 'neighbour', instead: 'downstream service', found: /\bneighbou?r(s|ing)?\b/i },
  { word: 'Parts, Terms', instead: 'Deps, Options', found: /\b(interface|type) ([A-Z]\w* )*(Parts|Terms)\b/, butNot: 'parts of a path' },
  { word: 'story', instead: 'explanation, recorded', found: /\bstor(y|ies)\b/i, butNot: 'history' },
  { word: 'extra hold, extra stock', instead: 'hold correction, stock correction', found: /\bextra (hold|stock)\b/i },
  { word: 'predicted stock', instead: 'expected stock', found: /\bpredicted\b/i },
  {
    word: 'epoch of a product',
    instead: 'call id',
    found: /\b(call|hold|lease|product)s? epoch\b/i,
    butNot: 'epoch ms, extract(epoch from ...)',
  },
  { word: 'desk, till, evening', instead: 'harness, server, shop', found: /\b(desk|till|evening)s?\b/i, butNot: 'still, until' },
  { word: 'bell', instead: 'signal', found: /\b(door)?bells?\b/i, butNot: 'label' },
  { word: 'let go', instead: 'release', found: /\b(let|lets|letting) go\b/i },
  { word: 'run out (of a lease)', instead: 'expire', found: /\blease \w* ?(run|ran|runs) out\b|\brun Out\b/, butNot: 'the ids run out' },
  { word: 'bury', instead: 'dead-letter', found: /\bbur(y|ies|ied|ying)\b/i },
  { word: 'built anew', instead: 'restarted', found: /\b(build|builds|building|built) (\w+ )?anew\b/i },
  { word: 'stands still', instead: 'is stalled, hangs', found: /\b(stand|stands|standing|stood) still\b|\bstandstill\b/i },
  { word: 'the service before', instead: 'the predecessor', found: /\b(by|from|of|that|to|when|where) the service before\b/i },
  { word: 'passed-by', instead: 'ignored', found: /\bpassed-by\b/i, butNot: 'a value passed by a caller' },
  { word: 'noted', instead: 'recorded', found: /\bnoted\b/i },
  { word: 'books', instead: 'inventory, totals', found: /\bbooks\b/i, butNot: 'runbooks' },
  { word: 'pieces', instead: 'units', found: /\bpieces\b/i },
  {
    word: 'look',
    instead: 'read, check, poll',
    found: /(?<!bin\/)\blook(s|ed|ing)?\b(?! (up|like|for|closer|well|first)\b)/i,
    butNot: 'look for, looks like; bin/look',
  },
]

const folders = ['README.md', 'bench', 'bin', 'deploy', 'docs', 'sql', 'src', 'test']
const self = 'test/words.test.ts'
const apart = (line: string) => line.replace(/(?<=[a-z0-9])(?=[A-Z])/g, ' ').replaceAll('_', ' ')

const files = execFileSync('git', ['ls-files', ...folders], { encoding: 'utf8' }).split('\n')
const lines = files
  .filter((file) => file !== self && existsSync(file))
  .flatMap((file) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .map((line, i) => ({ at: `${file}:${i + 1}`, line, text: apart(line) })),
  )

for (const { word, instead, found } of words) {
  test(`the tree does not use "${word}"; the word is "${instead}"`, (t) => {
    t.true(lines.length > 10_000)
    t.deepEqual(
      lines.filter(({ text }) => found.test(text)).map(({ at, line }) => `${at}: ${line.trim().slice(0, 120)}`),
      [],
    )
  })
}
