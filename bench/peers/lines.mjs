// JSON lines between the benchmark and a server's adapter: each request names an operation, and gets one answer.
import { createInterface } from "node:readline";
import process from "node:process";

const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

// Says which processes are measured, and carries out requests until there are no more; `end` is called then.
export function serve(pids, operations, end) {
  say({ pids });
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const request = JSON.parse(line);
    try {
      say({ id: request.id, ok: await operations[request.op](request) });
    } catch (error) {
      say({ id: request.id, error: String(error) });
    }
  });
  lines.on("close", end);
}
