// A connection across the end of tokens and of the gateway itself.

import { expect, test } from '@playwright/test';
import { Gateway } from './support/gateway';
import { everybodyLeaves, Person } from './support/people';

let gateway: Gateway;

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

test('a socket outlives its token, and so does a reload after it', async ({ browser }) => {
  gateway = await Gateway.start({ env: { STACK_AUTH_ACCESS_TOKEN_TTL_S: '8' } });
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.createRoom('Long lived');
  let sockets = 0;
  let renewals = 0;
  ada.page.on('websocket', (socket) => {
    sockets++;
    socket.on('framesent', ({ payload }) => {
      if (String(payload).includes('"type":"auth"')) renewals++;
    });
  });
  await ada.page.reload();
  await expect(ada.composer).toBeVisible();
  await expect.poll(() => renewals, { timeout: 60_000 }).toBeGreaterThanOrEqual(4);
  expect(sockets).toBe(1);
  await ada.say('still here');
  await expect(ada.message('still here')).toHaveAttribute('data-seq');

  // A browser that was closed for long comes back without the short-lived cookie.
  const context = ada.page.context();
  await ada.page.close();
  const cookie = async () =>
    (await context.cookies()).find(({ name }) => name.endsWith('stack_access'))?.value;
  const before = await cookie();
  const page = await context.newPage();
  await context.clearCookies({ name: /stack_access$/ });
  await page.goto('/r/long-lived');
  await expect(page.getByText('still here')).toBeVisible();
  expect(await cookie()).not.toBe(before);
});

test('a restart is announced and over without a reload', async ({ browser }) => {
  gateway = await Gateway.start();
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.createRoom('Harbour');
  await ada.say('before');
  await expect(ada.message('before')).toHaveAttribute('data-seq');
  // Looked at with every frame: it may be told for half a second only, and be over between two looks of `expect`.
  const told = ada.page.waitForFunction(
    () => document.querySelector('[data-testid="connection"]')?.textContent?.includes('Server is restarting'),
    undefined,
    { polling: 'raf' },
  );
  const going = gateway.shutDown();
  await told;
  await ada.say('meanwhile');
  await going;
  await gateway.run();
  await expect(ada.message('meanwhile')).toHaveAttribute('data-seq', /\d+/, { timeout: 40_000 });
  await ada.connected();
  expect(await ada.heard()).toEqual(['before', 'meanwhile']);
});
