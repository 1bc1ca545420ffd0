// A small floating panel beside its button: closes on Esc, on a click elsewhere and when focus leaves it.

import { type ReactNode, type RefObject, useEffect, useLayoutEffect, useRef } from 'react';
import styles from './popover.module.css';

interface PopoverProps {
  anchor: RefObject<HTMLElement | null>;
  label: string;
  role?: 'menu' | 'dialog';
  align?: 'start' | 'end';
  onClose(): void;
  children: ReactNode;
}

const MARGIN = 8;

export function Popover({ anchor, label, role = 'dialog', align = 'end', onClose, children }: PopoverProps) {
  const ref = useRef<HTMLDivElement>(null);

  useLayoutEffect(() => {
    const panel = ref.current;
    const button = anchor.current?.getBoundingClientRect();
    if (!panel || !button) return;
    const { width, height } = panel.getBoundingClientRect();
    const below = button.bottom + 6;
    const top = below + height + MARGIN <= innerHeight ? below : Math.max(MARGIN, button.top - height - 6);
    const wanted = align === 'end' ? button.right - width : button.left;
    panel.style.top = `${top}px`;
    panel.style.left = `${Math.min(Math.max(MARGIN, wanted), innerWidth - width - MARGIN)}px`;
    panel.querySelector<HTMLElement>('button, [href], input')?.focus();
  }, [anchor, align]);

  useEffect(() => {
    const button = anchor.current;
    const outside = (event: Event) => {
      const target = event.target as Node;
      if (!ref.current?.contains(target) && !button?.contains(target)) onClose();
    };
    const leave = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      onClose();
      button?.focus();
    };
    document.addEventListener('pointerdown', outside);
    document.addEventListener('focusin', outside);
    document.addEventListener('keydown', leave, true);
    return () => {
      document.removeEventListener('pointerdown', outside);
      document.removeEventListener('focusin', outside);
      document.removeEventListener('keydown', leave, true);
    };
  }, [anchor, onClose]);

  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: the role is a prop
    // biome-ignore lint/a11y/useAriaPropsSupportedByRole: both roles take a label
    <div
      ref={ref}
      role={role}
      aria-label={label}
      className={styles.popover}
      onKeyDown={(event) => moveFocus(event, ref.current)}
    >
      {children}
    </div>
  );
}

/** Arrow keys go through the panel's buttons; in a grid, up and down go by rows. */
function moveFocus(event: React.KeyboardEvent, panel: HTMLElement | null): void {
  const keys = ['ArrowDown', 'ArrowUp', 'ArrowRight', 'ArrowLeft', 'Home', 'End'];
  if (!panel || !keys.includes(event.key)) return;
  const buttons = [...panel.querySelectorAll<HTMLElement>('button:not(:disabled), [href]')];
  const index = buttons.indexOf(document.activeElement as HTMLElement);
  if (index < 0) return;
  const row = buttons.filter((button) => button.offsetTop === buttons[0]?.offsetTop).length;
  const step = { ArrowDown: row, ArrowUp: -row, ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = event.key === 'Home' ? 0 : event.key === 'End' ? buttons.length - 1 : index + (step ?? 0);
  event.preventDefault();
  buttons[Math.min(Math.max(0, next), buttons.length - 1)]?.focus();
}
