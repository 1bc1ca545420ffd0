// The first administrator of a gateway, at their browser.

import { type Browser, expect, type Page } from '@playwright/test';
import type { Gateway } from './gateway';
import { PASSWORD, stranger } from './people';

export async function administrator(
  browser: Browser,
  gateway: Gateway,
  name = 'Mara Lindqvist',
  username = 'mara',
): Promise<Page> {
  const page = await stranger(browser, gateway.url);
  await page.goto(await gateway.setupUrl());
  await page.getByLabel('Your name').fill(name);
  await page.getByLabel('Username').fill(username);
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
  return page;
}
