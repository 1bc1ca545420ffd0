import { describe, expect, it } from 'vitest';
import { bytes, milliseconds, top } from './figures';

describe('figures', () => {
  it('have a unit of their size', () => {
    expect(bytes(0)).toBe('0 bytes');
    expect(bytes(1024 * 1024 * 1.5)).toBe('1.5 MiB');
    expect(milliseconds(0.84)).toBe('0.8 ms');
    expect(milliseconds(1250)).toMatch(/^1[.,]3 s$/);
  });

  it('have a scale that holds them, and no smaller one than asked for', () => {
    expect(top(0, 10)).toBe(10);
    expect(top(11, 10)).toBe(20);
    expect(top(50, 10)).toBe(50);
    expect(top(51, 10)).toBe(100);
    expect(top(3 * 1024 * 1024, 1024 * 1024)).toBe(4 * 1024 * 1024);
  });
});
