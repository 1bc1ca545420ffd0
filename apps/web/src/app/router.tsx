// The addresses of the client and how to get from one to another, on the History API.

import { type ComponentProps, useSyncExternalStore } from 'react';

export type Route =
  | { name: 'home' }
  | { name: 'room'; id: string }
  | { name: 'browse' }
  | { name: 'settings'; tab: 'profile' | 'password' | 'sessions' }
  | { name: 'signin' }
  | { name: 'register' }
  | { name: 'unknown' };

export const paths = {
  home: '/',
  room: (id: string) => `/r/${encodeURIComponent(id)}`,
  browse: '/browse',
  settings: '/settings',
  password: '/settings/password',
  sessions: '/settings/sessions',
  signin: '/signin',
  register: '/register',
};

const FIXED: Record<string, Route> = {
  [paths.home]: { name: 'home' },
  [paths.browse]: { name: 'browse' },
  [paths.settings]: { name: 'settings', tab: 'profile' },
  [paths.password]: { name: 'settings', tab: 'password' },
  [paths.sessions]: { name: 'settings', tab: 'sessions' },
  [paths.signin]: { name: 'signin' },
  [paths.register]: { name: 'register' },
};

function parse(pathname: string): Route {
  const path = pathname.length > 1 ? pathname.replace(/\/+$/, '') : pathname;
  const fixed = FIXED[path];
  if (fixed !== undefined) return fixed;
  const room = /^\/r\/([^/]+)$/.exec(path)?.[1];
  if (room === undefined) return { name: 'unknown' };
  try {
    return { name: 'room', id: decodeURIComponent(room) };
  } catch {
    return { name: 'unknown' };
  }
}

const CHANGED = 'stack:navigate';
let current = { path: location.pathname, route: parse(location.pathname) };

function snapshot(): Route {
  if (current.path !== location.pathname)
    current = { path: location.pathname, route: parse(location.pathname) };
  return current.route;
}

function subscribe(listener: () => void): () => void {
  window.addEventListener('popstate', listener);
  window.addEventListener(CHANGED, listener);
  return () => {
    window.removeEventListener('popstate', listener);
    window.removeEventListener(CHANGED, listener);
  };
}

export function navigate(path: string, options: { replace?: boolean } = {}): void {
  if (path === location.pathname) return;
  if (options.replace) history.replaceState(null, '', path);
  else history.pushState(null, '', path);
  window.dispatchEvent(new Event(CHANGED));
}

export function useRoute(): Route {
  return useSyncExternalStore(subscribe, snapshot);
}

/** A real link, so that it can be opened elsewhere; a plain click stays in the page. */
export function Link({ to, onClick, ...rest }: ComponentProps<'a'> & { to: string }) {
  return (
    <a
      {...rest}
      href={to}
      onClick={(event) => {
        onClick?.(event);
        if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey)
          return;
        event.preventDefault();
        navigate(to);
      }}
    />
  );
}
