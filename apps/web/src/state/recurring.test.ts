// The pace: steady while the page is seen, nothing while it is not, soon after coming back.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Recurring } from './recurring';

describe('recurring', () => {
  const task = vi.fn();
  const page = Object.assign(new EventTarget(), { visibilityState: 'visible' });
  const frame = new EventTarget();
  let recurring: Recurring;
  const look = (visibilityState: string) => {
    page.visibilityState = visibilityState;
    page.dispatchEvent(new Event('visibilitychange'));
    if (visibilityState === 'visible') frame.dispatchEvent(new Event('focus'));
  };

  beforeEach(() => {
    vi.useFakeTimers();
    vi.stubGlobal('document', page);
    vi.stubGlobal('window', frame);
    task.mockClear();
    page.visibilityState = 'visible';
    recurring = new Recurring(60_000, task);
    recurring.start();
  });
  afterEach(() => {
    recurring.stop();
    vi.unstubAllGlobals();
    vi.useRealTimers();
  });

  it('runs at once and at its pace, until it is stopped', () => {
    expect(task).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(120_000);
    expect(task).toHaveBeenCalledTimes(3);
    recurring.stop();
    vi.advanceTimersByTime(120_000);
    expect(task).toHaveBeenCalledTimes(3);
  });

  it('rests while the page is hidden, and runs once when it is seen again', () => {
    look('hidden');
    vi.advanceTimersByTime(600_000);
    expect(task).toHaveBeenCalledTimes(1);
    look('visible');
    vi.advanceTimersByTime(0);
    expect(task).toHaveBeenCalledTimes(2);
    vi.advanceTimersByTime(59_999);
    expect(task).toHaveBeenCalledTimes(2);
  });

  it('does not run twice for somebody who keeps switching', () => {
    for (let i = 0; i < 10; i++) look('visible');
    vi.advanceTimersByTime(999);
    expect(task).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(1);
    expect(task).toHaveBeenCalledTimes(2);
  });
});
