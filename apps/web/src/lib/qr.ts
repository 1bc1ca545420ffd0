// QR codes as the path of an SVG, drawn here so that no secret goes to anybody for a picture.

export interface Qr {
  /** Modules along one side, without the quiet zone. */
  size: number;
  /** The dark modules, one unit each. */
  path: string;
}

/** The drawing is loaded only by who needs it. */
export async function qrOf(text: string): Promise<Qr> {
  const { default: qrcode } = await import('qrcode-generator');
  const code = qrcode(0, 'M');
  code.addData(text, 'Byte');
  code.make();
  const size = code.getModuleCount();
  let path = '';
  for (let row = 0; row < size; row++) {
    for (let column = 0; column < size; column++) {
      if (code.isDark(row, column)) path += `M${column} ${row}h1v1h-1z`;
    }
  }
  return { size, path };
}
