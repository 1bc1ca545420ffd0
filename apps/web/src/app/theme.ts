// Light, dark, or as the system says. `public/theme.js` applies a stored choice before the first paint.

import { Store } from '../state/store';

export type Theme = 'system' | 'light' | 'dark';

const KEY = 'stack.theme';

function stored(): Theme {
  const theme = document.documentElement.dataset.theme;
  return theme === 'light' || theme === 'dark' ? theme : 'system';
}

export const theme = new Store<Theme>(stored());

export function setTheme(next: Theme): void {
  if (next === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    if (next === 'system') localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, next);
  } catch {
    // The choice then lasts as long as the page.
  }
  theme.set(next);
}
