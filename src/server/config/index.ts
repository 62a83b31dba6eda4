export { authIsOn, isLoopback, issuerOf, requireSafeConfig } from './authentication.js'
export { type ConfigSources, type EffectiveSetting, type LoadedConfig, loadConfig, masked } from './load.js'
export { type Config, dormant, flagOf, type Setting, type SettingKey, settings } from './settings.js'
export { tracesUrl } from './traces.js'
