// QR codes: the three corners every reader looks for, and nothing outside the square.

import { expect, it } from 'vitest';
import { qrOf } from './qr';

it('draws the corners and stays inside', async () => {
  const { size, path } = await qrOf('otpauth://totp/Stack:ada?secret=JBSWY3DPEHPK3PXP&issuer=Stack');
  expect((size - 17) % 4).toBe(0);
  const dark = new Set([...path.matchAll(/M(\d+) (\d+)h/g)].map(([, x, y]) => `${x},${y}`));
  for (const [x, y] of [
    [0, 0],
    [size - 7, 0],
    [0, size - 7],
  ] as const) {
    for (let i = 0; i < 7; i++) expect(dark.has(`${x + i},${y}`)).toBe(true);
    expect(dark.has(`${x + 1},${y + 1}`)).toBe(false);
    expect(dark.has(`${x + 3},${y + 3}`)).toBe(true);
  }
  for (const at of dark) expect(Math.max(...at.split(',').map(Number))).toBeLessThan(size);
});
