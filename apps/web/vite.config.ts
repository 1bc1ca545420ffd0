// Builds the client into dist/ with hashed assets, and in development proxies the gateway's routes to it.
import react from '@vitejs/plugin-react';
import { defineConfig } from 'vitest/config';

const gateway = process.env.STACK_DEV_GATEWAY ?? 'http://127.0.0.1:8080';
const routes = ['/api', '/health', '/healthz', '/readyz', '/ping', '/metrics', '/version'];

export default defineConfig({
  plugins: [react()],
  server: {
    proxy: {
      ...Object.fromEntries(
        routes.map((route) => [route, { target: gateway, headers: { origin: gateway } }]),
      ),
      // The gateway accepts a cookie upgrade from its own origin only, so the proxy speaks as that origin.
      '/ws': { target: gateway, ws: true, headers: { origin: gateway } },
    },
  },
  build: {
    target: 'es2022',
    // The page runs under `default-src 'self'`: nothing may be inlined into the document.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    sourcemap: false,
  },
  test: {
    environment: 'node',
    include: ['src/**/*.test.ts'],
  },
});
