// A list that comes in pages and grows at its end.

import { useCallback, useEffect, useRef, useState } from 'react';

export interface Pages<T> {
  status: 'loading' | 'failed' | 'ready';
  items: readonly T[];
  /** Whether there is more to load. */
  more: boolean;
  loadMore(): void;
  reload(): void;
}

interface Page<T, C> {
  items: T[];
  /** Where the next page begins; undefined after the last one. */
  next: C | undefined;
}

/** @param load must keep its identity while it asks for the same list; another one begins anew */
export function usePages<T, C>(load: (cursor: C | undefined) => Promise<Page<T, C>>): Pages<T> {
  const [items, setItems] = useState<readonly T[]>([]);
  const [next, setNext] = useState<C | undefined>(undefined);
  const [status, setStatus] = useState<Pages<T>['status']>('loading');
  /** Answers of a list that is no longer wanted are dropped. */
  const wanted = useRef(0);
  const fetch = useCallback(
    (cursor: C | undefined) => {
      const mine = ++wanted.current;
      load(cursor).then(
        (page) => {
          if (mine !== wanted.current) return;
          setItems((items) => (cursor === undefined ? page.items : [...items, ...page.items]));
          setNext(() => page.next);
          setStatus('ready');
        },
        () => mine === wanted.current && setStatus('failed'),
      );
    },
    [load],
  );
  useEffect(() => {
    fetch(undefined);
    return () => {
      wanted.current++;
    };
  }, [fetch]);
  return {
    status,
    items,
    more: next !== undefined,
    loadMore: () => fetch(next),
    reload: () => fetch(undefined),
  };
}
