// Browser tests against a real gateway, in the Chromium of the system.

import { defineConfig } from '@playwright/test';

const launchOptions = {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--disable-gpu',
    // Without it Chromium draws GL in software, which takes the cores from the gateway under test.
    '--disable-software-rasterizer',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
};

export default defineConfig({
  testDir: 'e2e',
  fullyParallel: true,
  workers: 2,
  // Generous, since the machine may be building something else meanwhile; nothing waits for it when all is well.
  timeout: 150_000,
  expect: { timeout: 15_000 },
  reporter: [['list']],
  use: { launchOptions, actionTimeout: 30_000, locale: 'en-GB', screenshot: 'only-on-failure' },
  projects: [
    { name: 'e2e', testMatch: /.*\.spec\.ts/ },
    { name: 'screenshots', testMatch: 'screenshots.ts' },
  ],
});
