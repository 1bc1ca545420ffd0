// The length of a password without a second factor, and how to say what is missing.

const LEAST = 15;

export function passwordHint(password: string): string {
  const length = [...password].length;
  if (length === 0) return 'At least 15 characters. Four or five random words do well.';
  if (length < LEAST)
    return `${LEAST - length} more ${LEAST - length === 1 ? 'character' : 'characters'} to go.`;
  return 'Long enough.';
}
