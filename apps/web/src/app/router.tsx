// The addresses of the client and how to get from one to another, on the History API.

import { type ComponentProps, useSyncExternalStore } from 'react';

export type SettingsTab = 'profile' | 'security' | 'sessions' | 'linked';
export type AdminTab = 'overview' | 'trace' | 'users' | 'invites' | 'bans' | 'keys' | 'audit';

export type Route =
  | { name: 'home' }
  | { name: 'room'; id: string }
  | { name: 'browse' }
  | { name: 'settings'; tab: SettingsTab }
  | { name: 'admin'; tab: AdminTab }
  | { name: 'signin' }
  | { name: 'register' }
  | { name: 'setup' }
  | { name: 'invite' }
  | { name: 'recover' }
  | { name: 'unknown' };

export const paths = {
  home: '/',
  room: (id: string) => `/r/${encodeURIComponent(id)}`,
  browse: '/browse',
  settings: '/settings',
  security: '/settings/security',
  sessions: '/settings/sessions',
  linked: '/settings/linked',
  admin: '/admin',
  overview: '/admin/overview',
  trace: '/admin/trace',
  invites: '/admin/invites',
  bans: '/admin/bans',
  keys: '/admin/keys',
  audit: '/admin/audit',
  signin: '/signin',
  register: '/register',
  setup: '/setup',
  invite: '/invite',
  recover: '/recover',
};

const FIXED: Record<string, Route> = {
  [paths.home]: { name: 'home' },
  [paths.browse]: { name: 'browse' },
  [paths.settings]: { name: 'settings', tab: 'profile' },
  '/settings/profile': { name: 'settings', tab: 'profile' },
  [paths.security]: { name: 'settings', tab: 'security' },
  // Where the password was changed before there was more to it.
  '/settings/password': { name: 'settings', tab: 'security' },
  [paths.sessions]: { name: 'settings', tab: 'sessions' },
  [paths.linked]: { name: 'settings', tab: 'linked' },
  [paths.admin]: { name: 'admin', tab: 'users' },
  '/admin/users': { name: 'admin', tab: 'users' },
  [paths.overview]: { name: 'admin', tab: 'overview' },
  [paths.trace]: { name: 'admin', tab: 'trace' },
  [paths.invites]: { name: 'admin', tab: 'invites' },
  [paths.bans]: { name: 'admin', tab: 'bans' },
  [paths.keys]: { name: 'admin', tab: 'keys' },
  [paths.audit]: { name: 'admin', tab: 'audit' },
  [paths.signin]: { name: 'signin' },
  [paths.register]: { name: 'register' },
  [paths.setup]: { name: 'setup' },
  [paths.invite]: { name: 'invite' },
  [paths.recover]: { name: 'recover' },
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

/** The pages one comes to by a link with a secret in its fragment. */
const SECRET_PAGES = new Set(['setup', 'invite', 'recover']);

const CHANGED = 'stack:navigate';
/** What stood in the fragment, by page. It is gone with the page: neither history nor storage keeps it. */
const secrets = new Map<string, string>();

/** Takes a secret out of the address at once, before anybody can copy, keep or share it from there. */
function takeSecret(): void {
  const { name } = parse(location.pathname);
  const secret = location.hash.slice(1);
  if (!SECRET_PAGES.has(name) || secret === '') return;
  secrets.set(name, secret);
  history.replaceState(null, '', location.pathname);
}

takeSecret();
window.addEventListener('hashchange', () => {
  takeSecret();
  window.dispatchEvent(new Event(CHANGED));
});

/** The secret with which somebody came to one of those pages, or null. */
export function useSecret(page: 'setup' | 'invite' | 'recover'): string | null {
  return useSyncExternalStore(subscribe, () => secrets.get(page) ?? null);
}

/** It has served. */
export function forgetSecret(page: 'setup' | 'invite' | 'recover'): void {
  secrets.delete(page);
}
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
  if (path === location.pathname + location.search) return;
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
