// What a device is called: out of the user agent of a session, and for a passkey made here.

/** "Chrome on Windows" out of a user agent; other texts are shown as they are. */
export function deviceName(device: string): string {
  const browser = [
    [/Edg\//, 'Edge'],
    [/OPR\//, 'Opera'],
    [/Firefox\//, 'Firefox'],
    [/Chrome\//, 'Chrome'],
    [/Safari\//, 'Safari'],
  ].find(([pattern]) => (pattern as RegExp).test(device))?.[1];
  const system = [
    [/iPhone|iPad/, 'iOS'],
    [/Android/, 'Android'],
    [/Windows/, 'Windows'],
    [/Mac OS/, 'macOS'],
    [/Linux/, 'Linux'],
  ].find(([pattern]) => (pattern as RegExp).test(device))?.[1];
  if (browser === undefined) return device.trim() === '' ? 'Unknown device' : device;
  return system === undefined ? `${browser}` : `${browser} on ${system}`;
}

/** The name that a passkey made here gets until its owner finds a better one. */
export function thisDevice(): string {
  return deviceName(navigator.userAgent);
}
