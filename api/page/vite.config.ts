import { defineConfig } from "vite";

export default defineConfig({
  base: "/",
  build: {
    outDir: "dist",
    assetsDir: "assets",
    // The content-security policy allows neither scripts nor styles inside the document.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2022",
    // What the licenses of the libraries ask for, beside the bundle.
    license: { fileName: "licenses.md" },
  },
  // For work on the page itself: `npm run dev` beside `voxdex serve`.
  server: { proxy: { "/v1": "http://127.0.0.1:8080", "/readyz": "http://127.0.0.1:8080" } },
});
