// The first administrator of a gateway, at their browser.

import { type Browser, expect, type Page } from '@playwright/test';
import type { Gateway } from './gateway';
import { PASSWORD, stranger } from './people';

export async function administrator(browser: Browser, gateway: Gateway): Promise<Page> {
  const page = await stranger(browser, gateway.url);
  await page.goto(await gateway.setupUrl());
  await page.getByLabel('Your name').fill('Mara Lindqvist');
  await page.getByLabel('Username').fill('mara');
  await page.getByLabel('Password', { exact: true }).fill(PASSWORD);
  await page.getByRole('button', { name: 'Create account' }).click();
  await expect(page.getByRole('button', { name: /account menu/ })).toBeVisible();
  return page;
}
