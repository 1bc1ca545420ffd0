// What went wrong while signing in, in words for people.

import type { Words } from './useAuthForm';

export const PASSKEY_WORDS: Words = {
  invalid_credentials: 'That passkey does not sign you in here. It may have been removed.',
};

export const CODE_WORDS: Words = { invalid_credentials: 'That code is not right, or was used already.' };

const TROUBLE: Record<string, string> = {
  denied: 'You did not allow it there, so nothing happened here.',
  expired: 'That took too long. Please start again.',
  wrong_browser: 'That sign-in was begun in another browser. Please start again here.',
  provider_unavailable: 'The other service does not answer. Try again later, or sign in another way.',
  provider_error: 'The other service gave an answer that makes no sense. Try again, or sign in another way.',
  email_exists:
    'There is an account with your e-mail address already. Sign in to it first, then link the other one in your settings.',
  not_linked: 'That account is not linked to any account here.',
  registration_closed: 'That account is not linked to any account here, and new ones need an invite.',
  account_disabled: 'This account is switched off. Ask an administrator.',
  already_linked: 'That account is linked to somebody else here.',
};

/** What to say for the `error` that a provider's callback came back with. */
export function providerTrouble(slug: string): string {
  return TROUBLE[slug] ?? 'Signing in there did not work. Please start again.';
}
