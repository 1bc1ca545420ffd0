// People at their browsers: registering, making rooms, talking.

import { type Browser, type BrowserContextOptions, expect, type Locator, type Page } from '@playwright/test';
import { Authenticator } from './authenticator';

export const PASSWORD = 'four random words do';

/** Closes every browser context; pages left open would go on looking for their gateway through all later tests. */
export async function everybodyLeaves(browser: Browser): Promise<void> {
  await Promise.all(browser.contexts().map((context) => context.close()));
}

/** Somebody who has not been here before: a browser context of their own. */
export async function stranger(browser: Browser, baseURL: string): Promise<Page> {
  return (await browser.newContext({ baseURL })).newPage();
}

export class Person {
  private constructor(
    readonly page: Page,
    readonly username: string,
  ) {}

  /** Opens a browser context of their own and registers there. */
  static async register(
    browser: Browser,
    url: string,
    name: string,
    options: BrowserContextOptions = {},
  ): Promise<Person> {
    const context = await browser.newContext({ baseURL: url, ...options });
    const page = await context.newPage();
    const username = name.toLowerCase().replace(/\W+/g, '');
    await page.goto('/register');
    await page.getByLabel('Your name').fill(name);
    await page.getByLabel('Username').fill(username);
    await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
    await page.getByRole('button', { name: 'Create account' }).click();
    const person = new Person(page, username);
    await expect(person.accountButton).toBeVisible();
    return person;
  }

  /** The same with a passkey and no password; the authenticator stays in the page. */
  static async signUp(browser: Browser, url: string, name: string): Promise<[Person, Authenticator]> {
    const page = await stranger(browser, url);
    const authenticator = await Authenticator.plugInto(page);
    const person = new Person(page, name.toLowerCase().replace(/\W+/g, ''));
    await page.goto('/register');
    await page.getByLabel('Your name').fill(name);
    await page.getByLabel('Username').fill(person.username);
    await page.getByRole('button', { name: 'Sign up with a passkey' }).click();
    await expect(person.accountButton).toBeVisible();
    return [person, authenticator];
  }

  get accountButton(): Locator {
    return this.page.getByRole('button', { name: /account menu/ });
  }

  get composer(): Locator {
    return this.page.getByRole('textbox', { name: /^Message / });
  }

  get log(): Locator {
    return this.page.getByRole('log');
  }

  /** The row of the message with this in its text. */
  message(text: string): Locator {
    return this.log.getByRole('article').filter({ has: this.page.locator('[data-body]', { hasText: text }) });
  }

  member(other: Person): Locator {
    return this.page.getByTestId(`member-${other.username}`);
  }

  /** The account, as the gateway has it. */
  me(): Promise<{ id: string }> {
    return this.page.evaluate(async () => (await fetch('/api/v1/me')).json());
  }

  async createRoom(title: string, { open = true } = {}): Promise<void> {
    await this.page.getByRole('button', { name: 'New room' }).first().click();
    const dialog = this.page.getByRole('dialog');
    await dialog.getByLabel('Title').fill(title);
    if (!open) await dialog.getByLabel('Public').uncheck();
    await dialog.getByRole('button', { name: 'Create room' }).click();
    await expect(this.page.getByRole('heading', { level: 1, name: title })).toBeVisible();
  }

  async joinRoom(title: string): Promise<void> {
    await this.page.getByRole('link', { name: 'Browse rooms' }).click();
    await this.page.getByRole('button', { name: `Join ${title}` }).click();
    await expect(this.composer).toBeVisible();
  }

  async say(text: string): Promise<void> {
    await this.composer.fill(text);
    await this.composer.press('Enter');
  }

  /** The texts of all messages in the log, from top to bottom. */
  async heard(): Promise<string[]> {
    return this.log.locator('[data-body]').allTextContents();
  }

  /** Waits until nothing stands in the way of sending. */
  async connected(): Promise<void> {
    await expect(this.page.getByTestId('connection')).toHaveCount(0);
  }
}
