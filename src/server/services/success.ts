/** `{"success": true, "data": …}` around JSON text, which is passed on as it is (I13). */
export function successText(data: string): string {
  return `{"success":true,"data":${data}}`
}
