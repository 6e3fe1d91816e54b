/** Builds the one file that the daemon serves at /creditsd.js. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";
import { minify } from "terser";

export const target = fileURLToPath(new URL("../../creditsd/http/static/creditsd.js", import.meta.url));

/** What only the client itself ever sees, never a page, a transport or another tab: it need not be called by its name. */
export const INTERNAL = `answered apply began change check controller current end endIfSilentFor ended era failures firm forget hello hold identity isIn
  keep lead listeners met moves note open over owns recall rest rests say settings spoke stand state stay sure take tell timer truth
  waitMs`.split(/\s+/);

/** Bundle and minify the client; the same source gives the same bytes on every machine. */
export async function bundle(): Promise<string> {
  const built = await build({
    entryPoints: [fileURLToPath(new URL("src/alone.ts", import.meta.url))],
    absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    mangleProps: new RegExp(`^(?:${INTERNAL.join("|")})$`),
    write: false,
  });
  // "unsafe" is what terser calls trust in built-in functions being the built-in ones, and in methods that nobody calls by `new`.
  const { code } = await minify(built.outputFiles[0]!.text, {
    module: true, ecma: 2022, compress: { passes: 3, pure_getters: true, hoist_funs: true, unsafe: true, unsafe_arrows: true, unsafe_methods: true },
  });
  return `${code}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(target, await bundle());
