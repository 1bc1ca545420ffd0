// The names of the audit log in words.

const WORDS: Record<string, string> = {
  register: 'New account',
  login: 'Sign-in',
  logout: 'Sign-out',
  password_changed: 'Password change',
  session_revoked: 'Ended a session',
  sessions_revoked: 'Ended sessions',
  refresh_reused: 'Used a spent token',
  reauthenticated: 'Confirmation of who it is',
  setup_claimed: 'Set up the server',
  role_changed: 'Changed a role',
  account_made: 'Made an account for somebody',
  account_disabled: 'Disabled an account',
  account_enabled: 'Enabled an account',
  account_adopted: 'Took over an unconfirmed account',
  counter_reset: 'Reset a counter',
  passkey_added: 'Added a passkey',
  passkey_renamed: 'Renamed a passkey',
  passkey_removed: 'Removed a passkey',
  passkey_compromised: 'Passkey may be copied',
  oauth_linked: 'Linked an account',
  oauth_unlinked: 'Unlinked an account',
  oauth_refused: 'Sign-in through another service',
  totp_enabled: 'Turned on the second factor',
  totp_disabled: 'Turned off the second factor',
  second_factor: 'Second factor',
  recovery_codes_made: 'Made recovery codes',
  recovery_code_used: 'Used a recovery code',
  recovery_link_made: 'Made a recovery link',
  recovery_link_used: 'Used a recovery link',
  invite_made: 'Made an invite',
  invite_used: 'Used an invite',
  invite_revoked: 'Took back an invite',
  api_key_made: 'Made an API key',
  api_key_revoked: 'Revoked an API key',
  room_token_made: 'Minted a room token',
  ownership_transferred: 'Gave a room away',
  banned: 'Banned somebody',
  unbanned: 'Lifted a ban',
  muted: 'Muted somebody',
  unmuted: 'Lifted a mute',
  room_retention_changed: 'Changed what a room keeps',
  erasure_requested: 'Had messages erased',
  messages_erased: 'Erased messages',
  signing_key_rotated: 'Rotated the signing key',
  message_traced: 'Looked where a message is',
};

/** The actions whose target is a person; that of the others is a thing without a name. */
export const ON_PEOPLE: ReadonlySet<string> = new Set([
  'register',
  'login',
  'password_changed',
  'sessions_revoked',
  'role_changed',
  'account_made',
  'account_disabled',
  'account_enabled',
  'account_adopted',
  'second_factor',
  'recovery_link_made',
  'recovery_link_used',
  'room_token_made',
  'ownership_transferred',
]);

export const ACTIONS: readonly string[] = Object.keys(WORDS);

/** Also of names that a newer server has. */
export function actionWords(action: string): string {
  const plain = action.replaceAll('_', ' ');
  return WORDS[action] ?? plain.charAt(0).toUpperCase() + plain.slice(1);
}
