// What administrators do, and what the others see of it.

import { expect, type Page, test } from '@playwright/test';
import { administrator } from './support/admin';
import { accessible } from './support/check';
import { Gateway } from './support/gateway';
import { everybodyLeaves, PASSWORD, Person, stranger } from './support/people';

let gateway: Gateway;

test.afterEach(async ({ browser }) => {
  await everybodyLeaves(browser);
  await gateway.stop();
});

const manage = async (page: Page, name: string, item: string) => {
  await page.getByRole('button', { name: `Manage ${name}` }).click();
  await page.getByRole('menuitem', { name: item }).click();
};

test('people are found, promoted, shut out at once, and let in again', async ({ browser }) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await page.goto('/admin');
  await expect(page.getByTestId('user-ben')).toContainText('password');
  await page.getByRole('searchbox', { name: 'Find people' }).fill('mara');
  await expect(page.getByTestId('user-ben')).toHaveCount(0);
  await page.getByRole('searchbox', { name: 'Find people' }).fill('');
  await accessible(page, 'people');

  await manage(page, 'Ben', 'Disable account');
  await page.getByRole('dialog').getByRole('button', { name: 'Disable' }).click();
  await expect(ben.page.getByText('Your session has ended')).toBeVisible();
  await expect(page.getByTestId('user-ben')).toContainText('Disabled');
  await manage(page, 'Ben', 'Enable account');
  await expect(page.getByTestId('user-ben')).not.toContainText('Disabled');

  await manage(page, 'Ben', 'Make administrator');
  await page.getByRole('dialog').getByRole('button', { name: 'Make administrator' }).click();
  await expect(page.getByTestId('user-ben')).toContainText('Admin');
  await manage(page, 'Ben', 'Make member');
  await expect(page.getByTestId('user-ben')).not.toContainText('Admin');
  await manage(page, 'Mara Lindqvist', 'Make member');
  await expect(page.getByText('The last administrator stays one.')).toBeVisible();
});

test('the overview shows what the gateway does, and goes on by itself', async ({ browser }) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  await page.goto('/admin/overview');
  const connections = page.getByTestId('figure-Connections');
  const now = page.getByTestId('value-Connections');
  await expect(now).toHaveText('1');
  await expect(page.getByTestId('value-Storage')).toHaveText(/^[1-9][\d.,]* [KM]iB$/);
  await accessible(page, 'overview');
  await Person.register(browser, gateway.url, 'Ben');
  await expect(now).toHaveText('2', { timeout: 15_000 });
  await expect(connections.getByRole('img')).toHaveAccessibleName(/Connections in the last ten minutes/, {
    timeout: 15_000,
  });
});

test('why a message did not arrive is told for everybody in its room', async ({ browser }) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await ben.createRoom('Harbour');
  const zoe = await Person.register(browser, gateway.url, 'Zoe');
  await zoe.joinRoom('Harbour');
  await ben.say('Low tide at six');
  await expect(zoe.message('Low tide at six')).toBeVisible();
  const left = await Person.register(browser, gateway.url, 'Kai');
  await left.joinRoom('Harbour');
  await left.page.context().close();

  // From the message itself, and from the pages for administrators.
  const mara = new Person(page, 'mara');
  await mara.joinRoom('Harbour');
  await mara.message('Low tide at six').hover();
  await page.getByRole('button', { name: 'Where did it go?' }).click();
  await expect(page.getByRole('heading', { name: 'Message 3 in Harbour' })).toBeVisible();
  await page.getByRole('link', { name: 'Overview' }).click();
  await page.getByRole('link', { name: 'Trace' }).click();
  await page.getByLabel('Room', { exact: true }).fill('harbour');
  await page.getByLabel('Message number').fill('99');
  await page.getByLabel('Message number').press('Enter');
  await expect(page.getByRole('alert').getByText('There is no event 99 in this room')).toBeVisible();

  // The room, two who came in, and the message between them.
  await page.getByLabel('Message number').fill('3');
  await page.getByRole('button', { name: 'Look' }).click();
  const found = page.getByTestId('trace');
  await expect(found.getByRole('heading', { name: 'Message 3 in Harbour' })).toBeVisible();
  await expect(found).toContainText('message of Ben');
  await expect(page.getByTestId('traced-ben')).toContainText('sent it');
  await expect(page.getByTestId('traced-zoe')).toContainText(/read|handed over/);
  await expect(page.getByTestId('connection-zoe')).toContainText('Handed over; it reads live.');
  await expect(page.getByTestId('closed-kai')).toContainText('It had begun behind the message.');
  await expect(found).not.toContainText('Low tide');
  await accessible(page, 'trace');

  // The address is the look: it can be kept, and goes on with one person alone.
  await page.getByLabel('Person').fill('zoe');
  await page.getByLabel('Person').press('Enter');
  await expect(page.getByTestId('traced-ben')).toHaveCount(0);
  await page.reload();
  await expect(page.getByTestId('traced-zoe')).toBeVisible();
  await expect(page.getByTestId('traced-ben')).toHaveCount(0);
  await page.goto('/admin/audit');
  await expect(page.getByTestId('audit-entry').first()).toContainText('Looked where a message is');

  await zoe.page.goto('/admin/trace');
  await expect(zoe.page.getByText('For administrators')).toBeVisible();
});

test('a recovery link brings somebody back in, once', async ({ browser }) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  const ben = await Person.register(browser, gateway.url, 'Ben');
  await page.goto('/admin');
  await manage(page, 'Ben', 'Recovery link');
  await page.getByRole('button', { name: 'Make link' }).click();
  const url = await page.getByRole('textbox', { name: 'Recovery link' }).inputValue();
  await accessible(page, 'recovery link');

  const back = await stranger(browser, gateway.url);
  await back.goto(url);
  await expect(back).toHaveURL(/\/recover$/);
  await expect(back.getByText('@ben')).toBeVisible();
  await accessible(back, 'recover');
  await back.getByLabel('New password', { exact: true }).fill('another four random words');
  await back.getByRole('button', { name: 'Set password and sign in' }).click();
  await expect(back.getByRole('heading', { name: 'Passkeys' })).toBeVisible();
  await expect(ben.page.getByText('Your session has ended')).toBeVisible();

  const again = await stranger(browser, gateway.url);
  await again.goto(url);
  await expect(again.getByRole('heading', { name: 'This link is over' })).toBeVisible();
});

test('an account made for somebody is theirs by its link', async ({ browser }) => {
  gateway = await Gateway.start({ env: { STACK_AUTH_REGISTRATION: 'closed' } });
  const page = await administrator(browser, gateway);
  await page.goto('/admin');
  await page.getByRole('button', { name: 'Add somebody' }).click();
  await page.getByLabel('Their name').fill('Jonas Weber');
  await page.getByLabel('Username').fill('jonas');
  await accessible(page, 'add somebody');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  const url = await page.getByRole('textbox', { name: 'Link' }).inputValue();
  const jonas = await stranger(browser, gateway.url);
  await jonas.goto(url);
  await jonas.getByLabel('New password', { exact: true }).fill(PASSWORD);
  await jonas.getByRole('button', { name: 'Set password and sign in' }).click();
  await expect(jonas.getByRole('button', { name: /Jonas Weber, account menu/ })).toBeVisible();

  const visitor = await stranger(browser, gateway.url);
  await visitor.goto('/register');
  await expect(visitor.getByRole('heading', { name: 'Closed' })).toBeVisible();
});

test('an invite brings people in, into its room, and is over when it is taken back', async ({ browser }) => {
  gateway = await Gateway.start({ env: { STACK_AUTH_REGISTRATION: 'invite' } });
  const page = await administrator(browser, gateway);
  await page.getByRole('button', { name: 'New room' }).first().click();
  await page.getByRole('dialog').getByLabel('Title').fill('Harbour');
  await page.getByRole('button', { name: 'Create room' }).click();
  await expect(page.getByRole('heading', { level: 1, name: 'Harbour' })).toBeVisible();
  await page.goto('/admin/invites');
  await page.getByRole('button', { name: 'New invite' }).click();
  await page.getByLabel('Note').fill('The new crew');
  await page.getByLabel('For', { exact: true }).selectOption('5 people');
  await page.getByLabel('Into a room').selectOption('Harbour');
  await accessible(page, 'new invite');
  await page.getByRole('button', { name: 'Make link' }).click();
  const url = await page.getByRole('textbox', { name: 'Invite link' }).inputValue();
  await page.getByRole('button', { name: 'Done' }).click();

  const visitor = await stranger(browser, gateway.url);
  await visitor.goto('/register');
  await expect(visitor.getByRole('heading', { name: 'By invitation' })).toBeVisible();
  await visitor.goto(url);
  await expect(visitor).toHaveURL(/\/invite$/);
  await expect(visitor.getByText('Mara Lindqvist invites you.')).toBeVisible();
  await accessible(visitor, 'invite');
  await visitor.getByLabel('Username').fill('newcomer');
  await visitor.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await visitor.getByRole('button', { name: 'Create account' }).click();
  await expect(visitor.getByRole('link', { name: /^Harbour/ })).toBeVisible();

  await page.reload();
  await expect(page.getByTestId('invite')).toContainText('1 of 5 used');
  await page.getByRole('button', { name: 'Take back The new crew' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Take back' }).click();
  await expect(page.getByTestId('invite')).toContainText('taken back');
  const late = await stranger(browser, gateway.url);
  await late.goto(url);
  await expect(late.getByRole('heading', { name: 'This invite is over' })).toBeVisible();
});

test('a key is shown once, signs a program in, and is revoked; all of it is on record', async ({
  browser,
}) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  await page.goto('/admin/keys');
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByLabel('Name', { exact: true }).fill('Tide bot');
  await accessible(page, 'new key');
  await page.getByRole('button', { name: 'Make key' }).click();
  const key = await page.getByRole('textbox', { name: 'API key' }).inputValue();
  await page.getByRole('button', { name: 'Done' }).click();
  const ask = () => fetch(`${gateway.url}/api/v1/me`, { headers: { authorization: `Bearer ${key}` } });
  expect((await ask()).status).toBe(200);
  await expect(page.getByTestId('api-key')).toContainText('never used');
  await accessible(page, 'keys');
  await page.getByRole('button', { name: 'Revoke Tide bot' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Revoke' }).click();
  await expect(page.getByText('No keys yet.')).toBeVisible();
  expect((await ask()).status).toBe(401);

  await page.getByRole('link', { name: 'Audit log' }).click();
  const entries = page.getByTestId('audit-entry');
  await expect(entries.filter({ hasText: 'Revoked an API key' })).toContainText('by @mara');
  await expect(entries.filter({ hasText: 'Set up the server' })).toHaveCount(1);
  await accessible(page, 'audit');
  await page.getByLabel('What happened').selectOption('Made an API key');
  await expect(entries).toHaveCount(1);
  const downloading = page.waitForEvent('download');
  await page.getByRole('link', { name: 'Export' }).click();
  expect((await downloading).suggestedFilename()).toMatch(/\.(jsonl|ndjson)$/);
});

test('who is kept out of rooms is seen and let in again', async ({ browser }) => {
  gateway = await Gateway.start();
  const page = await administrator(browser, gateway);
  const ben = await Person.register(browser, gateway.url, 'Ben');
  const { id } = await ben.me();
  await page.evaluate(async (id) => {
    const headers = { 'content-type': 'application/json' };
    const send = (method: string, path: string, body: object) =>
      fetch(`/api/v1${path}`, { method, headers, body: JSON.stringify(body) });
    await send('POST', '/rooms', { id: 'tides', title: 'Tides', settings: { public: true } });
    await send('PUT', `/rooms/tides/bans/${id}`, { reason: 'too many puns' });
  }, id);
  await page.goto('/admin/bans');
  await expect(page.getByText('Nobody is shut out.')).toBeVisible();
  await expect(page.getByTestId('ban-ben')).toContainText('too many puns');
  await accessible(page, 'bans');
  await page.getByRole('button', { name: 'Lift the ban on Ben' }).click();
  await expect(page.getByText('Nobody is banned from any room.')).toBeVisible();
});
