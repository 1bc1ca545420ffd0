// Short notices about what happened elsewhere or did not work; they go by themselves.

import { isCancelled, StackError } from '../sdk';
import { Store } from './store';

export interface Toast {
  id: number;
  text: string;
  tone: 'info' | 'danger';
}

const SHOWN_MS = 6_000;

export class Toasts {
  readonly list = new Store<readonly Toast[]>([]);
  #nextId = 1;

  show(text: string, tone: Toast['tone'] = 'info'): void {
    const id = this.#nextId++;
    this.list.update((list) => [...list.slice(-2), { id, text, tone }]);
    setTimeout(() => this.dismiss(id), SHOWN_MS);
  }

  dismiss(id: number): void {
    this.list.update((list) => list.filter((toast) => toast.id !== id));
  }

  /** For a `catch`: says what the gateway said. */
  readonly failed = (error: unknown): void => {
    if (isCancelled(error)) return;
    this.show(error instanceof StackError ? sentence(error.message) : 'Something went wrong.', 'danger');
  };
}

/** The gateway's texts start in lower case and have no full stop; people expect a sentence. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  const capital = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(capital) ? capital : `${capital}.`;
}
