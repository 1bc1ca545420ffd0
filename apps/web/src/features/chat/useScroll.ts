// Where the list of messages stands: at the newest unless somebody scrolled away, and steady while older
// messages are put on top.

import { type RefObject, useCallback, useEffect, useLayoutEffect, useRef, useState } from 'react';

/** Closer to the end than this counts as being there. */
const NEAR_END = 48;
/** Older messages are fetched this far before the top comes into view. */
const NEAR_TOP = 800;

interface ScrollOptions {
  scroller: RefObject<HTMLDivElement | null>;
  content: RefObject<HTMLDivElement | null>;
  /** Changes with every drawing of the list. */
  rows: unknown;
  oldest: number | null;
  onNearTop(): void;
}

interface Measures {
  oldest: number | null;
  height: number;
  /** How much of the height is in view. */
  seen: number;
}

export interface Scroll {
  atEnd: boolean;
  onScroll(): void;
  toEnd(): void;
}

export function useScroll({ scroller, content, rows, oldest, onNearTop }: ScrollOptions): Scroll {
  const [atEnd, setAtEnd] = useState(true);
  const stuck = useRef(true);
  const before = useRef<Measures>({ oldest: null, height: 0, seen: 0 });

  const toEnd = useCallback(() => {
    const view = scroller.current;
    if (view === null) return;
    view.scrollTop = view.scrollHeight;
    stuck.current = true;
    setAtEnd(true);
  }, [scroller]);

  const onScroll = useCallback(() => {
    const view = scroller.current;
    if (view === null) return;
    // Something grew, such as an editor that was opened; nobody scrolled away, and the observer puts it right.
    const { height, seen } = before.current;
    if (stuck.current && (view.scrollHeight !== height || view.clientHeight !== seen)) return;
    stuck.current = view.scrollHeight - view.scrollTop - view.clientHeight < NEAR_END;
    setAtEnd(stuck.current);
    if (view.scrollTop < NEAR_TOP) onNearTop();
  }, [scroller, onNearTop]);

  // biome-ignore lint/correctness/useExhaustiveDependencies: runs after every drawing of the rows
  useLayoutEffect(() => {
    const view = scroller.current;
    if (view === null) return;
    const { oldest: oldestBefore, height } = before.current;
    const measure = () => {
      before.current = { oldest, height: view.scrollHeight, seen: view.clientHeight };
    };
    if (oldestBefore === null && oldest !== null) {
      const line = view.querySelector<HTMLElement>('[data-new]');
      if (line !== null) view.scrollTop = line.offsetTop - view.clientHeight / 3;
      else view.scrollTop = view.scrollHeight;
      measure();
      onScroll();
    } else if (oldestBefore !== null && oldest !== null && oldest < oldestBefore && !stuck.current) {
      view.scrollTop += view.scrollHeight - height;
    } else if (stuck.current) {
      view.scrollTop = view.scrollHeight;
    }
    measure();
    if (view.scrollTop < NEAR_TOP) onNearTop();
  }, [rows, oldest]);

  useEffect(() => {
    const view = scroller.current;
    const inner = content.current;
    if (view === null || inner === null) return;
    const observer = new ResizeObserver(() => {
      if (stuck.current) view.scrollTop = view.scrollHeight;
      before.current.height = view.scrollHeight;
      before.current.seen = view.clientHeight;
    });
    observer.observe(inner);
    observer.observe(view);
    return () => observer.disconnect();
  }, [scroller, content]);

  return { atEnd, onScroll, toEnd };
}
