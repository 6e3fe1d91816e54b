/** Builds the one file that the daemon serves at /creditsd.js. */
import { writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

export const target = fileURLToPath(new URL("../../creditsd/http/static/creditsd.js", import.meta.url));

/** Bundle and minify the client; the same source gives the same bytes on every machine. */
export async function bundle(): Promise<string> {
  const built = await build({
    entryPoints: [fileURLToPath(new URL("src/index.ts", import.meta.url))],
    absWorkingDir: fileURLToPath(new URL(".", import.meta.url)),
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    write: false,
    banner: { js: "/* The client of creditsd, built from clients/js. MIT. */" },
  });
  return built.outputFiles[0]!.text;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(target, await bundle());
}
