// How components watch the stores.

import { useCallback, useEffect, useState, useSyncExternalStore } from 'react';
import type { Timeline, TimelineState } from '../sdk';
import type { Store } from '../state/store';

export function useStore<T>(store: Store<T>): T {
  return useSyncExternalStore(store.subscribe, store.get);
}

/** A part of a store; the component is drawn again only when that part changes. */
export function useSelect<T, S>(store: Store<T>, select: (value: T) => S): S {
  return useSyncExternalStore(store.subscribe, () => select(store.get()));
}

/** The timeline, at most once a frame: a backlog of events is one drawing, not one each. */
export function useTimeline(timeline: Timeline): TimelineState {
  const subscribe = useCallback(
    (changed: () => void) => {
      let frame = 0;
      const stop = timeline.subscribe(() => {
        frame ||= requestAnimationFrame(() => {
          frame = 0;
          changed();
        });
      });
      return () => {
        stop();
        cancelAnimationFrame(frame);
      };
    },
    [timeline],
  );
  return useSyncExternalStore(subscribe, timeline.snapshot);
}

/** The current time, renewed while `active`. */
export function useNow(everyMs: number, active: boolean): number {
  const [now, setNow] = useState(() => Date.now());
  useEffect(() => {
    if (!active) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs, active]);
  return now;
}

export function useMedia(query: string): boolean {
  const subscribe = useCallback(
    (changed: () => void) => {
      const media = matchMedia(query);
      media.addEventListener('change', changed);
      return () => media.removeEventListener('change', changed);
    },
    [query],
  );
  return useSyncExternalStore(subscribe, () => matchMedia(query).matches);
}
