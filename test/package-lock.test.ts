/** What `npm ci` needs of the lock file on every machine, whatever the one that wrote it could see of the registry. */
import { readFileSync } from 'node:fs'
import test from 'ava'

interface Locked {
  resolved?: string
  optionalDependencies?: Record<string, string>
}

const { packages } = JSON.parse(readFileSync(new URL('../package-lock.json', import.meta.url), 'utf8')) as {
  packages: Record<string, Locked>
}

test('package-lock.json has the packages of other platforms: npm ci refuses a lock file that lacks one', (t) => {
  const named = Object.values(packages).flatMap(({ optionalDependencies = {} }) => Object.keys(optionalDependencies))
  const missing = named.filter((name) => !Object.keys(packages).some((path) => path.endsWith(`node_modules/${name}`)))
  t.deepEqual(missing, [])
})

test('package-lock.json names no registry: each machine asks its own', (t) => {
  const bound = Object.entries(packages).filter(([, { resolved }]) => resolved !== undefined)
  t.deepEqual(
    bound.map(([path]) => path),
    [],
  )
})
