// How long a password must be, and how to say what is missing.

/** Without a second factor. */
export const LEAST = 15;
/** With one. */
export const LEAST_WITH_FACTOR = 8;

export function passwordHint(password: string, least = LEAST): string {
  const length = [...password].length;
  if (length === 0)
    return least < LEAST
      ? `At least ${least} characters.`
      : `At least ${least} characters. Four or five random words do well.`;
  if (length < least)
    return `${least - length} more ${least - length === 1 ? 'character' : 'characters'} to go.`;
  return 'Long enough.';
}
