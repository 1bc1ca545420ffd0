// The field for six digits or a recovery code.

import { TextField } from '../../ui/Field';

interface CodeFieldProps {
  recovery?: boolean;
  value: string;
  error: string | null;
  onChange(code: string): void;
}

export function CodeField({ recovery = false, value, error, onChange }: CodeFieldProps) {
  return (
    <TextField
      label={recovery ? 'Recovery code' : 'Code'}
      name="code"
      autoComplete="one-time-code"
      inputMode={recovery ? 'text' : 'numeric'}
      autoCapitalize="none"
      spellCheck={false}
      required
      autoFocus
      maxLength={recovery ? 40 : 7}
      placeholder={recovery ? 'xxxx-xxxx-xxxx-xxxx' : '123456'}
      value={value}
      error={error}
      onChange={(event) => onChange(recovery ? event.target.value : event.target.value.replace(/[^\d]/g, ''))}
    />
  );
}
