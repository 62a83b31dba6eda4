import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Fails a file that leaves a timer, socket or server behind.
    setupFiles: ['test/support/leaks.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    // Two cores: more workers only make every server slower.
    maxWorkers: 2,
    testTimeout: 30_000,
    hookTimeout: 60_000,
    restoreMocks: true,
  },
})
