#!/usr/bin/env python3
"""Do browsers accept the shaders? Gives each to headless Chromium's WebGPU (whose WGSL compiler is tint).

Needs Chromium (Debian: package chromium) and nothing else beyond Python.
usage: tools/check-wgsl-browser.py
"""

import http.server
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

ROOT = pathlib.Path(__file__).resolve().parent.parent

PAGE = """<!doctype html><script>
(async () => {
  const results = [];
  try {
    const shaders = await (await fetch("/shaders")).json();
    const adapter = await navigator.gpu.requestAdapter();
    const device = await adapter.requestDevice();
    for (const [name, code] of shaders) {
      device.pushErrorScope("validation");
      const module = device.createShaderModule({ code });
      const info = await module.getCompilationInfo();
      const messages = info.messages.map(m => `${m.type}: line ${m.lineNum}: ${m.message}`);
      await device.createComputePipelineAsync({ layout: "auto", compute: { module, entryPoint: "main" } })
        .catch(e => messages.push("error: " + e.message));
      const error = await device.popErrorScope();
      if (error) messages.push("error: " + error.message);
      results.push([name, messages]);
    }
  } catch (e) {
    results.push(["page", ["error: " + e]]);
  }
  await fetch("/results", { method: "POST", body: JSON.stringify(results) });
})();
</script>"""


def shaders(folder):
    command = "cargo run --release -q -p tilewise-kernels --features gpu --example shaders --".split()
    subprocess.run([*command, folder], cwd=ROOT, check=True)
    return [(path.stem, path.read_text()) for path in sorted(pathlib.Path(folder).glob("*.wgsl"))]


def main():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        sys.exit("check-wgsl-browser: expected chromium on the path (Debian: package chromium)")
    results, arrived = [], threading.Event()
    with tempfile.TemporaryDirectory() as folder:
        texts = shaders(folder)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                is_page = self.path == "/"
                body = (PAGE if is_page else json.dumps(texts)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html" if is_page else "application/json")
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self):
                results.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(200)
                self.end_headers()
                arrived.set()

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with tempfile.TemporaryDirectory() as profile:
            browser = subprocess.Popen(
                [chromium, "--headless=new", "--no-sandbox", "--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader",
                 "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
                 "--disable-quic", f"--user-data-dir={profile}", f"http://127.0.0.1:{server.server_port}/"],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            in_time = arrived.wait(timeout=600)
            browser.kill()
            browser.wait()
        server.shutdown()
    if not in_time:
        sys.exit("check-wgsl-browser: no answer from the browser")
    bad = [(name, messages) for name, messages in results if any(m.startswith("error") for m in messages)]
    for name, messages in bad:
        print(name, *messages, sep="\n  ")
    print(f"{len(results) - len(bad)} of {len(texts)} shaders accepted")
    sys.exit(1 if bad or len(results) != len(texts) else 0)


if __name__ == "__main__":
    main()
