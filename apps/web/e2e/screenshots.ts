// Makes the product's pictures: `npm run screenshots`. The published ones go to docs/images; with STACK_SHOTS all
// of them go there, for looking through every page in both themes and widths.

import { mkdirSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, type BrowserContextOptions, expect, type Page, test } from '@playwright/test';
import {
  administration,
  corners,
  firstRun,
  newcomersPages,
  restarts,
  type Shot,
  security,
} from './support/corners';
import { administrator } from './support/admin';
import { Gateway } from './support/gateway';
import { Guest } from './support/guest';
import { CONVERSATION, ROOMS, TEAM } from './support/story';

const here = dirname(fileURLToPath(import.meta.url));
const out = process.env.STACK_SHOTS ?? resolve(here, '../../../docs/images');
mkdirSync(out, { recursive: true });

const PUBLISHED = new Set([
  'chat-desktop-light',
  'chat-desktop-dark',
  'chat-phone-light',
  'chat-phone-dark',
  'rooms-phone-light',
  'rooms-phone-dark',
  'members-phone-light',
  'signin-desktop-light',
  'signin-desktop-dark',
  'register-phone-light',
  'browse-desktop-light',
]);

const MAIN = { id: 'tide-tables', title: 'Tide tables' };
/** The end of the conversation, by which it is known to be there. */
const LAST_WORDS = 'nothing can go wrong';
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

/** Where every page is looked at, also those that are never published. */
const ALL = process.env.STACK_SHOTS !== undefined;

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
  for (const guest of team.values()) await guest.ask('subscribe', { room: MAIN.id });
  await who('sam').ask('presence', { status: 'away' });
  await who('tom').ask('presence', { status: 'busy' });
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
  test.setTimeout(ALL ? 600_000 : 180_000);
  gateway = await Gateway.start();
  try {
    await tell(browser);
    const minutes = await talk();
    const storageState = await who('mara').page.context().storageState();
    const admin = await administrator(browser, gateway, 'Ines Marlow', 'ines');
    const admins = await admin.context().storageState();
    await admin.context().close();
    for (const [device, options] of Object.entries({ desktop: DESKTOP, phone: PHONE })) {
      for (const colorScheme of ['light', 'dark'] as const) {
        const look = { ...options, colorScheme, baseURL: gateway.url };
        const shot: Shot = async (page, name) => {
          const file = `${name}-${device}-${colorScheme}`;
          if (!ALL && !PUBLISHED.has(file)) return;
          const path = join(out, `${file}.png`);
          await page.screenshot({ path, animations: 'disabled' });
        };
        await strangersPages(await browser.newPage(look), shot);
        const page = await browser.newPage({ ...look, storageState });
        await spreadOverTheMorning(page, minutes);
        if (device === 'desktop' && colorScheme === 'light') await leaveSomethingUnread(page);
        await membersPages(page, device, shot);
        if (!ALL) continue;
        await corners(await browser.newPage({ ...look, storageState }), shot);
        await newcomersPages(await browser.newPage(look), `new-${device}-${colorScheme}`, shot);
        await restarts(browser, look, shot);
        await security(await browser.newPage({ ...look, storageState }), shot);
        await administration(await browser.newPage({ ...look, storageState: admins }), shot);
        await firstRun(browser, look, shot);
      }
    }
  } finally {
    for (const guest of team.values()) await guest.page.context().close();
    await gateway.stop();
  }
});

async function strangersPages(page: Page, shot: Shot): Promise<void> {
  await page.goto('/');
  await expect(page.getByRole('button', { name: 'Sign in' })).toBeVisible();
  await shot(page, 'signin');
  await page.goto('/register');
  await page.getByLabel('Your name').fill('Ada Lovelace');
  await page.getByLabel('Password', { exact: true }).fill('tide and time');
  await shot(page, 'register');
  await page.context().close();
}

async function membersPages(page: Page, device: string, shot: Shot): Promise<void> {
  await page.goto(`/r/${MAIN.id}`);
  await expect(page.getByText(LAST_WORDS)).toBeVisible();
  await expect(page.getByRole('log')).toContainText('Tom Okafor');
  await expect(page.getByText('6 here')).toBeVisible();
  await who('priya').tell('typing', { room: MAIN.id, on: true });
  await expect(page.getByTestId('typing')).toContainText('Priya');
  if (device === 'desktop') await page.getByText('Shipped. All 214').hover();
  await shot(page, 'chat');
  await who('priya').tell('typing', { room: MAIN.id, on: false });
  if (device === 'phone') {
    await page.getByRole('button', { name: 'Show members' }).click();
    await shot(page, 'members');
  }
  await page.goto('/');
  await expect(page.getByRole('link', { name: 'Lunch' })).toBeVisible();
  await shot(page, 'rooms');
  await page.goto('/browse');
  await expect(page.getByText('Running club')).toBeVisible();
  await shot(page, 'browse');
  await page.goto('/settings/sessions');
  await expect(page.getByText('This device')).toBeVisible();
  await shot(page, 'sessions');
  await page.goto('/settings');
  await expect(page.getByLabel('Your name')).toBeVisible();
  await shot(page, 'profile');
  await page.context().close();
}

/** All of it was said within seconds; in the pictures it took a morning. */
async function spreadOverTheMorning(page: Page, minutes: Map<number, number>): Promise<void> {
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
}

/** Reads every room, and lets the team say more in some of them. */
async function leaveSomethingUnread(page: Page): Promise<void> {
  for (const room of [...ROOMS, MAIN]) {
    await page.goto(`/r/${room.id}`);
    await expect(page.getByRole('log').getByText('created the room')).toBeVisible();
    await expect(page.getByRole('link', { name: room.title }).getByTestId('unread')).toHaveCount(0);
  }
  // Only what has arrived counts as read, and it goes out with the next frame.
  await page.goto('/browse');
  for (const room of ROOMS) {
    const guest = who(room.open ? 'sam' : 'mara');
    for (let i = 1; i <= room.lines; i++) await guest.ask('send', { room: room.id, body: `Note ${i}` });
  }
}
