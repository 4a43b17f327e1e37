/** Chromium, for the tests of the operators' pages and for their screenshots. */
import { find, install } from './install.ts'
import { toTerminal } from './report.ts'

/** Debian's package, with the fonts that it only recommends. @throws where Chromium is missing and cannot be installed */
export async function findChromium(): Promise<string> {
  const installed = () => find('chromium') ?? find('chromium-browser') ?? find('google-chrome')
  if (!installed()) await install(toTerminal, 'Chromium', ['chromium', 'fonts-dejavu-core'])
  const path = installed()
  if (!path) throw new Error('Chromium is missing and cannot be installed; put chromium on PATH')
  return path
}
