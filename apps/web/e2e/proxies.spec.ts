// Behind nginx, Caddy and HAProxy as docs/proxies has them, under TLS: people sign in with a passkey, see each other, talk,
// and come back by themselves when the gateway does.

import { type Browser, expect, test } from '@playwright/test';
import { everybodyLeaves, Person } from './support/people';
import { KINDS, Proxied } from './support/proxy';

let proxied: Proxied | undefined;
let browser: Browser | undefined;

test.afterEach(async () => {
  if (browser) await everybodyLeaves(browser);
  await browser?.close();
  await proxied?.stop();
  browser = undefined;
  proxied = undefined;
});

for (const kind of KINDS) {
  test(`behind ${kind}: passkey, presence, chat, a restart of the gateway`, async ({ launchOptions }) => {
    proxied = await Proxied.start(kind);
    browser = await proxied.browser(launchOptions);
    const [ada, authenticator] = await Person.signUp(browser, proxied.url, 'Ada');
    // With nobody at the authenticator, which would otherwise take the offer of the next page at once.
    await authenticator.touched(false);
    await ada.accountButton.click();
    await ada.page.getByRole('menuitem', { name: 'Sign out' }).click();
    await authenticator.offered();
    await authenticator.touched(true);
    await ada.page.getByRole('button', { name: 'Continue with a passkey' }).click();
    await expect(ada.accountButton).toBeVisible();
    const ben = await Person.register(browser, proxied.url, 'Ben');

    await ada.createRoom('Harbour');
    await ben.joinRoom('Harbour');
    for (const [one, other] of [
      [ada, ben],
      [ben, ada],
    ] as const) {
      await expect(one.member(other)).toHaveAttribute('data-status', 'online');
      await one.say(`from ${one.username}`);
      await expect(other.message(`from ${one.username}`)).toBeVisible();
    }

    await proxied.gateway.shutDown();
    await ada.say('while it was away');
    await expect(ada.page.getByTestId('connection')).toBeVisible();
    await proxied.gateway.run();
    await expect(ben.message('while it was away')).toBeVisible({ timeout: 40_000 });
    await expect(ben.member(ada)).toHaveAttribute('data-status', 'online');
    for (const person of [ada, ben]) {
      await person.connected();
      expect(await person.heard()).toEqual(['from ada', 'from ben', 'while it was away']);
    }
  });
}
