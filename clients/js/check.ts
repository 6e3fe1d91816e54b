/** Checks the package as npm would publish it: publint, and whether its types are those of its code, for every kind of importer. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { checkPackage, createPackageFromTarballData } from "@arethetypeswrong/core";
import { publint } from "publint";
import { formatMessage } from "publint/utils";

const here = fileURLToPath(new URL(".", import.meta.url));
/** TypeScript before 4.7 and Node before 12 know no `exports`. */
const IGNORED = "node10";

/** Pack the package; what it builds is there already. */
export function packed(directory: string): string {
  // Inside `npm run`, `npm` may be another one.
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : ["npm"];
  const args = [...npm.slice(1), "pack", "--ignore-scripts", "--json", "--pack-destination", directory];
  const [{ filename }] = JSON.parse(execFileSync(npm[0]!, args, { cwd: here, encoding: "utf8" })) as [{ filename: string }];
  return join(directory, filename);
}

const directory = mkdtempSync(join(tmpdir(), "creditsd-pack-"));
try {
  const tarball = readFileSync(packed(directory));
  const { messages, pkg } = await publint({ strict: true, pack: { tarball: tarball.buffer.slice(tarball.byteOffset, tarball.byteOffset + tarball.length) as ArrayBuffer } });
  const said = messages.map((message) => `publint: ${formatMessage(message, pkg)}`);
  const types = await checkPackage(createPackageFromTarballData(new Uint8Array(tarball)));
  const wrong = types.types ? types.problems.filter((problem) => !("resolutionKind" in problem) || problem.resolutionKind !== IGNORED) : ["no types"];
  said.push(...wrong.map((problem) => `are the types wrong: ${JSON.stringify(problem)}`));
  for (const line of said) console.error(line);
  process.exitCode = said.length > 0 ? 1 : 0;
} finally {
  rmSync(directory, { recursive: true });
}
