import { describe, expect, it } from 'vitest';
import { StackError } from '../../sdk';
import { bytes, isOver, milliseconds, top, why, within } from './figures';

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

  it('leave out samples that are too old for the plot', () => {
    expect(within([{ at: 99 }, { at: 100 }, { at: 250 }], 100)).toEqual([{ at: 100 }, { at: 250 }]);
  });

  it('are missing for a reason that is told', () => {
    const forbidden = new StackError('forbidden', 'no');
    expect(isOver(forbidden)).toBe(true);
    expect(why(forbidden)).toBe('Only administrators see this.');
    const often = new StackError('rate_limited', 'slow down');
    expect(isOver(often)).toBe(false);
    expect(why(often)).toMatch(/too often/);
    expect(why(new TypeError('fetch'))).toBe('The gateway does not answer.');
  });
});
