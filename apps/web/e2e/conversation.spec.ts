// Two people in two browsers: they meet, talk, lose the network, lose the gateway, and miss nothing.

import { expect, test } from '@playwright/test';
import { Gateway } from './support/gateway';
import { Guest } from './support/guest';
import { everybodyLeaves, Person } from './support/people';

let gateway: Gateway;

test.beforeEach(async () => {
  gateway = await Gateway.start();
});

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

const numbered = (count: number, from = 1) => Array.from({ length: count }, (_, i) => `message ${i + from}`);

test('two people talk, edit, react, and see each other', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada Lovelace');
  const ben = await Person.register(browser, gateway.url, 'Ben Franklin');
  await ada.createRoom('Tide tables');
  await ben.joinRoom('Tide tables');
  await expect(ada.member(ben)).toHaveAttribute('data-status', 'online');
  await expect(ben.member(ada)).toHaveAttribute('data-status', 'online');

  await ada.say('hello Ben');
  await expect(ben.message('hello Ben')).toBeVisible();
  await ben.say('hello Ada');
  await expect(ada.message('hello Ada')).toBeVisible();

  await ada.composer.pressSequentially('let me th');
  await expect(ben.page.getByTestId('typing')).toContainText('Ada Lovelace is typing');
  await ada.composer.fill('');
  await expect(ben.page.getByTestId('typing')).toBeEmpty();

  await ada.composer.press('ArrowUp');
  await ada.page.getByRole('textbox', { name: 'Edit message' }).fill('hello dear Ben');
  await ada.page.keyboard.press('Enter');
  await expect(ben.message('hello dear Ben')).toContainText('edited');

  await ben.message('hello dear Ben').hover();
  await ben.message('hello dear Ben').getByRole('button', { name: 'React with heart' }).click();
  await expect(
    ada.message('hello dear Ben').getByRole('button', { name: /^heart, 1, by Ben/ }),
  ).toBeVisible();
  await ada
    .message('hello dear Ben')
    .getByRole('button', { name: /^heart/ })
    .click();
  await expect(ben.message('hello dear Ben').getByRole('button', { name: /^heart, 2/ })).toBeVisible();

  await ada.message('hello Ada').hover();
  await ada.message('hello Ada').getByRole('button', { name: 'Reply' }).click();
  await ada.say('how are you?');
  await expect(ben.message('how are you?')).toContainText('In reply to');

  await ben.message('hello Ada').hover();
  await ben.message('hello Ada').getByRole('button', { name: 'Delete' }).click();
  await ben.page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await expect(ada.log.getByText('Message deleted').first()).toBeVisible();
  await expect(ada.message('hello Ada')).toHaveCount(0);

  await ben.page.context().close();
  await expect(ada.member(ben)).toHaveAttribute('data-status', 'offline');
});

test('unread counts are live and end with reading', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('One');
  await ben.joinRoom('One');
  await ben.createRoom('Two');
  for (const text of ['a', 'b', 'c']) await ada.say(text);
  const link = ben.page.getByRole('link', { name: /^One/ });
  await expect(link.getByTestId('unread')).toContainText('3');
  await link.click();
  await expect(ben.page.locator('[data-new]')).toBeVisible();
  await expect(link.getByTestId('unread')).toHaveCount(0);
  await ben.page.reload();
  await expect(ben.message('c')).toBeVisible();
  await expect(link.getByTestId('unread')).toHaveCount(0);
});

test('who was offline has everything, in order, after coming back', async ({ browser }) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('Harbour');
  await ben.joinRoom('Harbour');
  await ada.say('before');
  await expect(ben.message('before')).toBeVisible();

  await ben.page.context().setOffline(true);
  await expect(ben.page.getByTestId('connection')).toBeVisible({ timeout: 20_000 });
  const missed = numbered(50);
  for (const text of missed) await ada.say(text);
  await expect(ada.message('message 50')).toBeVisible();
  await expect(ada.log.locator('[data-pending]')).toHaveCount(0);
  await ben.say('written while away');
  await expect(ben.message('written while away')).toContainText('Will be sent when you are back');
  expect(await ben.heard()).not.toContain('message 1');

  await ben.page.context().setOffline(false);
  await expect(ada.message('written while away')).toBeVisible();
  await expect(ben.log.locator('[data-pending]')).toHaveCount(0);
  await expect.poll(() => ben.heard()).toEqual(['before', ...missed, 'written while away']);
  expect(await ada.heard()).toEqual(['before', ...missed, 'written while away']);
});

test('a killed gateway loses nothing it acknowledged, and both clients resume by themselves', async ({
  browser,
}) => {
  const ada = await Person.register(browser, gateway.url, 'Ada');
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ada.createRoom('Harbour');
  await ben.joinRoom('Harbour');
  await ada.say('first');
  await ben.say('second');
  await expect(ada.message('second')).toBeVisible();
  await expect(ben.message('first')).toBeVisible();

  // Both keep talking while the gateway dies and comes back in the middle of it.
  const talk = async (person: Person, name: string) => {
    for (const text of numbered(20)) await person.say(`${name} ${text}`);
  };
  const talking = Promise.all([talk(ada, 'ada'), talk(ben, 'ben')]);
  await expect(ben.message('ada message 3').first()).toBeVisible();
  await gateway.kill();
  const acknowledged = await ada.log.locator('[data-seq] [data-body]').allTextContents();
  await talking;
  await expect(ada.page.getByTestId('connection')).toBeVisible();
  await gateway.run();

  for (const person of [ada, ben]) {
    await expect(person.log.locator('[data-pending]')).toHaveCount(0, { timeout: 40_000 });
    await person.connected();
  }
  await expect.poll(() => ben.heard()).toHaveLength(42);
  const heard = await ada.heard();
  expect(heard).toEqual(await ben.heard());
  expect(new Set(heard).size).toBe(42);
  expect(heard.slice(0, acknowledged.length)).toEqual(acknowledged);
  for (const name of ['ada', 'ben']) {
    expect(heard.filter((text) => text.startsWith(name))).toEqual(
      numbered(20).map((text) => `${name} ${text}`),
    );
  }

  await ada.page.reload();
  await expect(ada.message('ben message 20')).toBeVisible();
  expect(await ada.heard()).toEqual(heard);
});

test('history goes back to the beginning and keeps its place', async ({ browser }) => {
  const writer = await Guest.register(browser, gateway.url, 'writer', 'Writer');
  await writer.api('POST', '/rooms', { id: 'long', title: 'Long', settings: { public: true } });
  for (const body of numbered(240)) await writer.ask('send', { room: 'long', body });
  const ada = await Person.register(browser, gateway.url, 'Ada');
  await ada.joinRoom('Long');
  await expect(ada.page.getByText('message 240', { exact: true })).toBeInViewport();
  await expect(ada.page.getByText('message 100', { exact: true })).toHaveCount(0);

  const top = () => ada.log.evaluate((log) => log.scrollTo({ top: 0 }));
  await top();
  await expect(ada.page.getByText('message 150', { exact: true })).toBeAttached();
  await expect(ada.page.getByRole('button', { name: 'Jump to latest' })).toBeVisible();
  await expect(async () => {
    await top();
    await expect(ada.page.getByText('This is where the conversation begins')).toBeVisible({ timeout: 500 });
  }).toPass();
  expect(await ada.heard()).toEqual(numbered(240));

  await writer.ask('send', { room: 'long', body: 'and one more' });
  await ada.page.getByRole('button', { name: '1 new message' }).click();
  await expect(ada.page.getByText('and one more')).toBeInViewport();
});

test('scrolling back does not move what is being read', async ({ browser }) => {
  const writer = await Guest.register(browser, gateway.url, 'writer', 'Writer');
  await writer.api('POST', '/rooms', { id: 'long', title: 'Long', settings: { public: true } });
  for (const body of numbered(200)) await writer.ask('send', { room: 'long', body });
  const ada = await Person.register(browser, gateway.url, 'Ada');
  // The older page is held back until the place is noted.
  let release = () => {};
  const held = new Promise<void>((done) => {
    release = done;
  });
  await ada.page.route('**/messages?*before=*', async (route) => {
    await held;
    await route.continue();
  });
  await ada.joinRoom('Long');
  const mark = ada.page.getByText('message 160', { exact: true });
  await mark.evaluate((element) => element.scrollIntoView({ block: 'center' }));
  await expect(mark).toBeInViewport();
  const before = (await mark.boundingBox())?.y ?? 0;
  release();
  await expect(ada.page.getByText('message 120', { exact: true })).toBeAttached();
  const after = (await mark.boundingBox())?.y ?? 0;
  expect(Math.abs(after - before)).toBeLessThan(60);
});
