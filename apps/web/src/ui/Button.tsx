// Buttons in words and buttons that are an icon. Both keep their size while they are busy.

import type { ComponentProps } from 'react';
import { Icon, type IconName } from './Icon';
import styles from './button.module.css';

interface ButtonProps extends ComponentProps<'button'> {
  variant?: 'primary' | 'secondary' | 'ghost' | 'danger';
  size?: 'm' | 's';
  busy?: boolean;
}

export function Button({
  variant = 'secondary',
  size = 'm',
  busy = false,
  children,
  className,
  ...rest
}: ButtonProps) {
  return (
    <button
      type="button"
      {...rest}
      className={[styles.button, styles[variant], styles[size], className].filter(Boolean).join(' ')}
      disabled={rest.disabled || busy}
      aria-busy={busy || undefined}
      data-busy={busy || undefined}
    >
      <span className={styles.label}>{children}</span>
    </button>
  );
}

interface IconButtonProps extends ComponentProps<'button'> {
  icon: IconName;
  /** Read out, and shown as a tooltip. */
  label: string;
  size?: 'm' | 's';
}

export function IconButton({ icon, label, size = 'm', className, ...rest }: IconButtonProps) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      {...rest}
      className={[styles.icon, size === 's' && styles.iconSmall, className].filter(Boolean).join(' ')}
    >
      <Icon name={icon} size={size === 's' ? 18 : 20} />
    </button>
  );
}
