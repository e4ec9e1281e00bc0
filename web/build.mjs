// Builds the page: node build.mjs [DIRECTORY]. What it writes, by default where weir embeds it from, is committed, so that whoever
// builds weir needs no npm. The same sources and the same package-lock.json give the same bytes.
import { build } from 'esbuild';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.argv[2] ?? join(here, '../control/web/dist');

await mkdir(out, { recursive: true });
const { metafile } = await build({
  absWorkingDir: here,
  entryPoints: { app: 'src/main.ts' },
  outdir: out,
  bundle: true,
  minify: true,
  metafile: true,
  charset: 'utf8',
  target: 'es2021',
  legalComments: 'none', // licenses.txt has them whole
  logLevel: 'warning',
});
for (const name of ['index.html', 'icon.svg']) {
  await copyFile(join(here, 'src', name), join(out, name));
}

// The licences of everything from npm that is in the bundle.
const packages = new Set();
for (const input of Object.keys(metafile.inputs)) {
  const found = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(input);
  if (found) packages.add(found[1]);
}
const parts = ['This page of weir contains the following software of others.\n'];
for (const name of [...packages].sort()) {
  const dir = join(here, 'node_modules', name);
  const { version } = JSON.parse(await readFile(join(dir, 'package.json'), 'utf8'));
  parts.push(`${name} ${version}\n\n${(await readFile(join(dir, 'LICENSE'), 'utf8')).trim()}\n`);
}
await writeFile(join(out, 'licenses.txt'), parts.join('\n'));
