// Makes the product's pictures: `npm run screenshots`. They go to docs/images, or to STACK_SHOTS.

import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, type BrowserContextOptions, expect, type Page, test } from '@playwright/test';
import { Gateway } from './support/gateway';
import { Guest } from './support/guest';
import { CONVERSATION, ROOMS, TEAM } from './support/story';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.env.STACK_SHOTS ?? resolve(here, '../../../docs/images');
mkdirSync(out, { recursive: true });

const MAIN = { id: 'tide-tables', title: 'Tide tables' };
const DESKTOP: BrowserContextOptions = { viewport: { width: 1280, height: 800 }, deviceScaleFactor: 2 };
const PHONE: BrowserContextOptions = {
  viewport: { width: 390, height: 844 },
  deviceScaleFactor: 2,
  hasTouch: true,
  isMobile: true,
};

/** The pictures tell of a morning, whenever they are made. */
const MORNING = new Date().setHours(10, 42, 0, 0);

let gateway: Gateway;
const team = new Map<string, Guest>();

function who(name: string): Guest {
  const guest = team.get(name);
  if (guest === undefined) throw new Error(`${name} is not in the team`);
  return guest;
}

async function tell(browser: Browser): Promise<void> {
  for (const [username, name] of Object.entries(TEAM)) {
    team.set(username, await Guest.register(browser, gateway.url, username, name));
  }
  const mara = who('mara');
  for (const room of [...ROOMS, { ...MAIN, open: true, lines: 0 }]) {
    await mara.api('POST', '/rooms', { id: room.id, title: room.title, settings: { public: room.open } });
    if (!room.open) continue;
    for (const name of ['jonas', 'priya', 'tom', 'elena', 'sam'])
      await who(name).ask('join', { room: room.id });
  }
  await who('sam').api('POST', '/rooms', { id: 'book-swap', title: 'Book swap', settings: { public: true } });
  await who('tom').api('POST', '/rooms', {
    id: 'running',
    title: 'Running club',
    settings: { public: true },
  });
}

/** Says the lines, and returns when each event of the room is to have happened. */
async function talk(): Promise<Map<number, number>> {
  const room = MAIN.id;
  const minutes = new Map<number, number>();
  const seqs: number[] = [];
  for (const line of CONVERSATION) {
    const reply = line.replyTo === undefined ? {} : { reply_to: seqs[line.replyTo] };
    const { seq } = await who(line.who).ask('send', { room, body: line.text, ...reply });
    seqs.push(seq);
    minutes.set(seq, line.ago);
    if (line.edited !== undefined) await who(line.who).ask('edit', { room, seq, body: line.edited });
    for (const [emoji, names] of line.reactions ?? []) {
      for (const name of names) await who(name).ask('react', { room, seq, emoji });
    }
  }
  return minutes;
}

test('pictures', async ({ browser }) => {
  test.setTimeout(180_000);
  gateway = await Gateway.start({ env: { STACK_RATE_ENABLED: 'false' } });
  try {
    await tell(browser);
    const minutes = await talk();
    const cookies = await who('mara').page.context().storageState();

    for (const [device, options] of [
      ['desktop', DESKTOP],
      ['phone', PHONE],
    ] as const) {
      for (const colorScheme of ['light', 'dark'] as const) {
        const shot = (page: Page, name: string) =>
          page.screenshot({
            path: join(out, `${name}-${device}-${colorScheme}.png`),
            animations: 'disabled',
          });
        const stranger = await browser.newPage({ ...options, colorScheme, baseURL: gateway.url });
        await stranger.goto('/');
        await expect(stranger.getByRole('button', { name: 'Sign in' })).toBeVisible();
        await shot(stranger, 'signin');
        await stranger.goto('/register');
        await stranger.getByLabel('Your name').fill('Ada Lovelace');
        await stranger.getByLabel('Password', { exact: true }).fill('tide and time');
        await shot(stranger, 'register');
        await stranger.context().close();

        const context = await browser.newContext({
          ...options,
          colorScheme,
          baseURL: gateway.url,
          storageState: cookies,
        });
        const page = await context.newPage();
        // All of it was said within seconds; the pictures spread it over a day.
        await page.route(`**/rooms/${MAIN.id}/messages*`, async (route) => {
          const answer = await route.fetch();
          const body = await answer.json();
          let last = 2000;
          for (const event of body.events) {
            last = minutes.get(event.payload.seq) ?? last;
            event.payload.ts = MORNING - last * 60_000;
          }
          await route.fulfill({ response: answer, json: body });
        });
        // Everything was read once; what came after that is new.
        await page.goto('/');
        await expect(page.getByRole('link', { name: 'Lunch' })).toBeVisible();
        if (device === 'desktop') await shot(page, 'home');
        await page.goto(`/r/${MAIN.id}`);
        await expect(page.getByText('nothing can go wrong')).toBeVisible();
        for (const room of ROOMS) {
          if (device === 'desktop' && colorScheme === 'light') {
            await markRead(page, room.id);
            for (let i = 0; i < room.lines; i++) await say(room.id, room.open, i);
          }
        }
        await page.reload();
        await expect(page.getByText('nothing can go wrong')).toBeVisible();
        await expect(page.getByTestId('unread').or(page.getByText('Back to rooms')).first()).toBeAttached();
        await who('priya').tell('typing', { room: MAIN.id, on: true });
        await expect(page.getByTestId('typing')).toContainText('Priya');
        if (device === 'desktop') await page.getByText('Shipped. All 214').hover();
        await shot(page, 'chat');
        if (device === 'phone') {
          await page.getByRole('button', { name: 'Show members' }).click();
          await shot(page, 'members');
          await page.goto('/');
          await expect(page.getByRole('link', { name: 'Lunch' })).toBeVisible();
          await shot(page, 'rooms');
        }
        await page.goto('/browse');
        await expect(page.getByText('Running club')).toBeVisible();
        await shot(page, 'browse');
        await page.goto('/settings/sessions');
        await expect(page.getByText('This device')).toBeVisible();
        await shot(page, 'sessions');
        await page.goto('/settings');
        await shot(page, 'profile');
        await context.close();
      }
    }
  } finally {
    for (const guest of team.values()) await guest.page.context().close();
    await gateway.stop();
  }
});

async function markRead(page: Page, room: string): Promise<void> {
  await page.goto(`/r/${room}`);
  await expect(page.getByRole('textbox', { name: /^Message / })).toBeVisible();
  await expect(page.getByText('created the room')).toBeVisible();
  await page.goto(`/r/${MAIN.id}`);
  await expect(page.getByText('nothing can go wrong')).toBeVisible();
}

async function say(room: string, open: boolean, index: number): Promise<void> {
  const guest = who(open ? 'sam' : 'mara');
  await guest.ask('send', { room, body: `Note ${index + 1}` });
}
