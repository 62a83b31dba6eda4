import ts from 'typescript'

const strict: ts.CompilerOptions = {
  strict: true,
  noUncheckedIndexedAccess: true,
  exactOptionalPropertyTypes: true,
  verbatimModuleSyntax: true,
  isolatedModules: true,
  noEmit: true,
  target: ts.ScriptTarget.ES2023,
  module: ts.ModuleKind.NodeNext,
  moduleResolution: ts.ModuleResolutionKind.NodeNext,
  skipLibCheck: true,
  types: [],
}

/** What the compiler finds wrong with these files, in strict mode; empty when nothing. */
export function compileErrors(files: readonly string[], options: ts.CompilerOptions = {}): string[] {
  const program = ts.createProgram(files, { ...strict, ...options })
  return ts.getPreEmitDiagnostics(program).map(({ file, start, messageText }) => {
    const line =
      file === undefined ? '' : `${file.fileName}:${file.getLineAndCharacterOfPosition(start ?? 0).line + 1} `
    return `${line}${ts.flattenDiagnosticMessageText(messageText, '\n')}`
  })
}

/** The kinds of statements in code, those in namespaces too, and every identifier; comments and texts are neither. */
export function partsOf(code: string): { statements: Set<string>; identifiers: Set<string> } {
  const statements = new Set<string>()
  const identifiers = new Set<string>()
  const visit = (node: ts.Node) => {
    if (ts.isStatement(node)) statements.add(ts.SyntaxKind[node.kind])
    if (ts.isIdentifier(node)) identifiers.add(node.text)
    ts.forEachChild(node, visit)
  }
  visit(ts.createSourceFile('code.ts', code, ts.ScriptTarget.Latest))
  return { statements, identifiers }
}
