/** Says of dist/cjs that it is CommonJS: for Jest, and for whatever else calls `require`. */
import { writeFileSync } from "node:fs";

writeFileSync(new URL("dist/cjs/package.json", import.meta.url), `${JSON.stringify({ type: "commonjs", sideEffects: false })}\n`);
