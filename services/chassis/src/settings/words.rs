//! Settings whose values are words.

/// Makes an enum whose variants are words in the settings.
///
/// ```
/// carillon_chassis::setting_words! {
///     /// What a gateway does with a session that falls behind.
///     pub enum SlowSessions {
///         /// Catch it up from history.
///         CatchUp = "catch_up",
///         /// Close it.
///         Close = "close",
///     }
/// }
/// ```
#[macro_export]
macro_rules! setting_words {
    (
        $(#[$attribute:meta])*
        $visibility:vis enum $name:ident {
            $($(#[$variant_attribute:meta])* $variant:ident = $word:literal),+ $(,)?
        }
    ) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $name {
            $($(#[$variant_attribute])* $variant),+
        }

        impl $name {
            /// The word in the settings.
            #[allow(dead_code, reason = "not everyone needs it")]
            $visibility fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl $crate::settings::SettingValue for $name {
            fn expects() -> String {
                format!("one of {}", [$(concat!("`", $word, "`")),+].join(", "))
            }

            fn parse_text(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(format!("expected {}", Self::expects())),
                }
            }
        }
    };
}
