/**
 * Takes one protection out of the service, for tests that show that the campaign would find it missing:
 * `node --import file:///.../take-away.ts?lease src/main.ts`. The code in its place is put into the file as it is loaded; where the
 * file has changed so that nothing can be replaced, the process does not start.
 */
import { registerHooks } from 'node:module'
import { type Protection, protections } from './protections.ts'

const name = new URL(import.meta.url).search.slice(1) as Protection
const replacements = protections[name]

registerHooks({
  load(url, context, next) {
    const loaded = next(url, context)
    const own = replacements.filter(({ file }) => url.endsWith(`/src/${file}`))
    if (own.length === 0) return loaded
    let source = String(loaded.source)
    for (const { file, code, instead } of own) {
      if (source.split(code).length !== 2)
        throw new Error(`${file} has not once "${code}": bring test/torture/protections.ts in line with it`)
      source = source.replace(code, () => instead)
    }
    return { ...loaded, source }
  },
})
